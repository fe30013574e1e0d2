/* The page and the bell; holding on to a server when it starts, and letting go of a backend when it ends. */
#include "control.h"

#include <dlfcn.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

struct page *page;
struct slot *slots;
struct real real;
int serving;
static int bell = -1;

#define REAL(name) (*(void **)&real.name = dlsym(RTLD_NEXT, #name))

/* Other libraries' constructors may call us before our own has run. */
void resolve(void) {
  if (__builtin_expect(real.fdatasync != NULL, 1)) return;
  REAL(epoll_wait), REAL(gettimeofday), REAL(time), REAL(clock_gettime), REAL(kill), REAL(setitimer), REAL(sigaction);
  REAL(open), REAL(pwrite), REAL(pwritev), REAL(posix_fallocate), REAL(fsync);
  *(void **)&real.rand_bytes = dlsym(RTLD_NEXT, "RAND_bytes");
  REAL(fdatasync);
}

static void complain(const char *format, ...) {
  char text[sizeof page->error] = "";
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  dprintf(2, "duress control library, pid %d: %s\n", (int)getpid(), text);
  if (page && !page->error[0]) memcpy(page->error, text, sizeof text);
}

struct slot *slot_of(uint32_t pid) {
  uint32_t used = LOAD(page->used);
  for (uint32_t i = 0; i < used; i++)
    if (LOAD(slots[i].pid) == pid) return &slots[i];
  return NULL;
}

/* Called in signal handlers too: the generation is stored last, so that an interrupted search is made again. */
struct slot *mine(void) {
  static struct slot *found;
  static uint32_t found_generation, found_pid;
  if (!page || !serving) return NULL;
  uint32_t pid = (uint32_t)getpid(), generation = LOAD(page->generation);
  if (generation != LOAD(found_generation) || pid != LOAD(found_pid)) {
    struct slot *now = slot_of(pid);
    STORE(found, now), STORE(found_pid, pid), STORE(found_generation, generation);
  }
  return LOAD(found);
}

void ring(void) {
  int saved = errno;
  char byte = 1;
  /* A full FIFO is a bell that rings already; one without a reader is found out by simulator_gone. */
  if (write(bell, &byte, 1) < 0 && errno != EAGAIN && errno != EPIPE) complain("cannot ring the bell: %m");
  errno = saved;
}

static int simulator_gone(void) {
  struct pollfd end = {.fd = bell};
  return poll(&end, 1, 0) == 1 && (end.revents & POLLERR);
}

/* Nobody controls us any more: finish as PostgreSQL does when it is told to terminate. */
static void leave(void) {
  serving = 0;
  complain("the simulator is gone: this backend ends");
  real.kill(getpid(), SIGTERM);
}

/* Returns when the simulator lets this backend go on, or has taken it off its list. */
void await_grant(struct slot *slot) {
  uint32_t pid = (uint32_t)getpid();
  struct timespec patience = {.tv_sec = 1};
  while (!LOAD(slot->grant) && LOAD(slot->pid) == pid) {
    long done = syscall(SYS_futex, &slot->grant, FUTEX_WAIT, 0, &patience, NULL, 0);
    if (done < 0 && errno == ETIMEDOUT && simulator_gone()) return leave();
  }
  if (LOAD(slot->pid) == pid) STORE(slot->grant, 0);
}

void stop_as(struct slot *slot, uint32_t state) {
  STORE(slot->grant, 0);
  STORE(slot->state, state);
  ring();
}

/* For the simulator, which loads this file too: let the backend of a slot go on. */
EXPORT void control_grant(struct slot *slot) {
  STORE(slot->woken, 0);
  STORE(slot->state, RUNNING);
  STORE(slot->grant, 1);
  syscall(SYS_futex, &slot->grant, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* For the simulator: a slot belongs to nobody from now on; whoever waited in it goes on by itself. */
EXPORT void control_release(struct page *header, struct slot *slot) {
  STORE(slot->pid, 0), STORE(slot->arm, 0), STORE(slot->io_after, 0);
  ADD(header->generation, 1);
  control_grant(slot);
}

static struct page *map_page(const char *path) {
  struct stat about;
  int fd = real.open(path, O_RDWR | O_CLOEXEC);
  void *at = MAP_FAILED;
  if (fd >= 0 && !fstat(fd, &about)) at = mmap(NULL, (size_t)about.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) complain("cannot map %s: %m", path);
  if (fd >= 0) close(fd);
  return at == MAP_FAILED ? NULL : at;
}

/* For the simulating process, when it has this library preloaded too: its wall clock is the page's from now on. */
EXPORT int control_follow(const char *path) {
  resolve();
  page = map_page(path);
  return page ? 0 : -1;
}

void *find(const char *name) {
  void *symbol = dlsym(RTLD_DEFAULT, name);
  if (!symbol) complain("this PostgreSQL exports no %s: use an unmodified build of 15 to 18", name);
  return symbol;
}

__attribute__((constructor)) static void arrive(void) {
  const char *path = getenv("DURESS_CONTROL_PAGE"), *bell_path = getenv("DURESS_CONTROL_BELL");
  resolve();
  if (!path || !bell_path) return;   /* loaded by the simulating process */
  unsetenv("LD_PRELOAD");            /* what the server runs in its turn is not ours to control */
  if (!(page = map_page(path))) return;
  bell = real.open(bell_path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
  if (bell < 0) return complain("cannot open %s: %m", bell_path);
  if (page->version != VERSION) return complain("the page has layout %u, this library %d", page->version, VERSION);
  slots = (struct slot *)(page + 1);
  take_points(), take_waits(), take_syncs();
  serving = !page->error[0];
  STORE(page->attached, 1);
}

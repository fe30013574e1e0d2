/* Puts the backends of an unmodified PostgreSQL (15 to 18) into the simulator's hands: clock, timers, lock waits, the
 * moments around statements and COMMIT, signals, randomness and failing writes. Loaded with LD_PRELOAD.
 *
 * One mapped file, the page, is shared by the simulator and all processes of the server: a header with the clock, then
 * one slot per registered backend. A backend tells that its slot has changed by a byte in a FIFO (the bell); it goes on
 * when the futex in its slot is granted. page.py has the same layout: change VERSION in both.
 * The simulator dies with the reading end of the bell: a held backend looks once a second, and then ends itself.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define VERSION 4
#define EXPORT __attribute__((visibility("default")))
#define LOAD(x) __atomic_load_n(&(x), __ATOMIC_SEQ_CST)
#define STORE(x, value) __atomic_store_n(&(x), (value), __ATOMIC_SEQ_CST)
#define ADD(x, value) __atomic_fetch_add(&(x), (value), __ATOMIC_SEQ_CST)

enum { RUNNING, BLOCKED, HELD, GONE };                 /* slot.state; GONE is said by the simulator alone */
enum { READING = 1, SENDING = 2 };                     /* slot.idle: what it waits for its client to do; 0: it does not */
enum { AT_START = 1, AT_END = 2, BEFORE_COMMIT = 4, COMMITTED = 8, ABORTED = 16, PREPARED = 32 };
enum { DATA_WRITE = 1, DATA_SYNC = 2, WAL_WRITE = 4, WAL_SYNC = 8 };
enum { SIGNALS = 4 };                                  /* SIGUSR1, SIGINT, SIGTERM, SIGALRM */

struct page {
  uint32_t version, slots;     /* how many there are; those from `used` on have never been used */
  int64_t now_us;              /* the virtual clock, since 1970 */
  uint32_t on;                 /* the clock is the virtual one */
  uint32_t used, generation;   /* which rises when a slot changes hands */
  uint32_t attention;          /* rises when a registered backend is woken, or sent a signal by another process */
  uint32_t attached, spare;
  int64_t jump_us;             /* by how much now_us has been set forward: the monotonic clock has not */
  char error[208];             /* why this library cannot do its work; empty: it can */
};

struct slot {
  uint32_t pid, state, grant, woken;             /* grant: the futex */
  uint32_t wait_info, spare, point, points;
  uint32_t arm, arm_kinds, idle, watch;          /* watch: the simulator wants to hear the bell for smaller things too */
  int64_t timer_us, until_us;                    /* PostgreSQL's alarm; the end of its timed wait; 0: none */
  uint64_t seed, random;
  uint32_t sent[SIGNALS], handled[SIGNALS];
  uint32_t io_after, io_kinds, io_errno, io_failed;
  uint32_t serial, welcomed;                     /* of the registration, and of the last one that its process has seen */
  uint32_t io_times, unused;                     /* how often a call is to fail from its io_after-th on; UINT32_MAX: always */
  char wait_event[64];
  char name[64];                                 /* application_name, as its client would have asked for it; empty: as it is */
  char rest[48];
};
_Static_assert(sizeof(struct page) == 256 && sizeof(struct slot) == 320, "page.py relies on the layout");

/* What we stand in for, as libc has it. */
struct real {
  int (*epoll_wait)(int, struct epoll_event *, int, int);
  int (*gettimeofday)(struct timeval *, void *);
  time_t (*time)(time_t *);
  int (*clock_gettime)(clockid_t, struct timespec *);
  int (*kill)(pid_t, int);
  int (*setitimer)(__itimer_which_t, const struct itimerval *, struct itimerval *);
  int (*sigaction)(int, const struct sigaction *, struct sigaction *);
  int (*open)(const char *, int, ...);
  int (*rand_bytes)(unsigned char *, int);
  ssize_t (*pwrite)(int, const void *, size_t, off_t);
  ssize_t (*pwritev)(int, const struct iovec *, int, off_t);
  int (*posix_fallocate)(int, off_t, off_t);
  int (*fsync)(int), (*fdatasync)(int);
};

/* page.c */
extern struct page *page;
extern struct slot *slots;
extern struct real real;
extern int serving;                              /* we are in a server, and have hold of it */
void resolve(void);                              /* fills `real`; first thing in all that stands in for libc */
struct slot *slot_of(uint32_t pid);
struct slot *mine(void);                         /* this process's slot, or NULL while nobody has registered it */
void ring(void);
void stop_as(struct slot *slot, uint32_t state); /* tell the simulator; await_grant comes next */
void await_grant(struct slot *slot);
void *find(const char *symbol);                  /* one of PostgreSQL's; NULL, and an error in the page, if it has none */

/* clock.c */
void alarm_went_off(void);
void take_over_alarm(struct slot *slot);         /* from the kernel, at registration */

/* disk.c */
void take_syncs(void);
void choose_syncs(struct slot *slot);            /* before each message */

/* points.c, waits.c */
void take_points(void);
void take_waits(void);
void before_message(struct slot *slot);          /* called when its client has sent something */

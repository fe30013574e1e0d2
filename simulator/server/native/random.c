/* Randomness that follows from the seed in the slot. */
#include "control.h"

#include <linux/memfd.h>
#include <stdarg.h>
#include <sys/syscall.h>

/* splitmix64 */
static uint64_t draw(uint64_t *state) {
  uint64_t z = (*state += 0x9e3779b97f4a7c15ULL);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

static void fill(struct slot *slot, unsigned char *bytes, size_t count) {
  for (size_t at = 0; at < count; at += sizeof(uint64_t)) {
    uint64_t value = draw(&slot->random);
    memcpy(bytes + at, &value, count - at < sizeof value ? count - at : sizeof value);
  }
}

EXPORT int RAND_bytes(unsigned char *bytes, int count) {
  resolve();
  struct slot *slot = mine();
  if (slot) return fill(slot, bytes, (size_t)count), 1;
  if (real.rand_bytes) return real.rand_bytes(bytes, count);
  return syscall(SYS_getrandom, bytes, count, 0) == count;
}

/* A PostgreSQL without OpenSSL reads this file, at most 1 kB at a time. */
static int open_random(struct slot *slot) {
  unsigned char bytes[1024];
  int fd = (int)syscall(SYS_memfd_create, "random", MFD_CLOEXEC);   /* older libcs lack the function */
  if (fd < 0) return -1;
  fill(slot, bytes, sizeof bytes);
  if (write(fd, bytes, sizeof bytes) != sizeof bytes || lseek(fd, 0, SEEK_SET) < 0) return close(fd), -1;
  return fd;
}

EXPORT int open(const char *path, int flags, ...) {
  resolve();
  va_list arguments;
  va_start(arguments, flags);
  int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, int) : 0;
  va_end(arguments);
  struct slot *slot = serving && !strcmp(path, "/dev/urandom") ? mine() : NULL;
  return slot ? open_random(slot) : real.open(path, flags, mode);
}
EXPORT int open64(const char *path, int flags, ...) __attribute__((alias("open")));

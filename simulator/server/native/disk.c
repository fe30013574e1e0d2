/* Writes and syncs that fail on request. */
#include "control.h"

#include <stdio.h>

static int is_wal(int fd) {
  char link[32], path[512];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return strstr(path, "/pg_wal/") != NULL;
}

/* The error number with which this call is to fail, or 0. */
static int must_fail(int fd, uint32_t data, uint32_t wal) {
  resolve();
  struct slot *slot = mine();
  if (!slot || !slot->io_times || !(slot->io_kinds & (is_wal(fd) ? wal : data))) return 0;
  if (slot->io_after > 1) return slot->io_after--, 0;
  if (slot->io_times != UINT32_MAX) slot->io_times--;
  slot->io_failed++;
  return errno = (int)slot->io_errno;
}

/* Where syncs are to fail there have to be some, though the server as a whole goes without. */
static char *enable_fsync;
static char usual;

void take_syncs(void) { enable_fsync = find("enableFsync"); }

void choose_syncs(struct slot *slot) {
  static int chosen;
  int wanted = slot->io_times && slot->io_kinds & (DATA_SYNC | WAL_SYNC);
  if (wanted == chosen) return;
  if (wanted) usual = *enable_fsync, *enable_fsync = 1;
  else *enable_fsync = usual;
  chosen = wanted;
}

EXPORT ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
  return must_fail(fd, DATA_WRITE, WAL_WRITE) ? -1 : real.pwrite(fd, bytes, count, at);
}
EXPORT ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
  return must_fail(fd, DATA_WRITE, WAL_WRITE) ? -1 : real.pwritev(fd, parts, count, at);
}
EXPORT int posix_fallocate(int fd, off_t at, off_t count) {
  int error = must_fail(fd, DATA_WRITE, WAL_WRITE);
  return error ? error : real.posix_fallocate(fd, at, count);
}
EXPORT int fsync(int fd) { return must_fail(fd, DATA_SYNC, WAL_SYNC) ? -1 : real.fsync(fd); }
EXPORT int fdatasync(int fd) { return must_fail(fd, DATA_SYNC, WAL_SYNC) ? -1 : real.fdatasync(fd); }
EXPORT ssize_t pwrite64(int fd, const void *bytes, size_t count, off_t at) __attribute__((alias("pwrite")));
EXPORT ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t at) __attribute__((alias("pwritev")));
EXPORT int posix_fallocate64(int fd, off_t at, off_t count) __attribute__((alias("posix_fallocate")));

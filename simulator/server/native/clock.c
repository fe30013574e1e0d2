/* The virtual clock, and PostgreSQL's timers, which are written down and not set. */
#include "control.h"

/* What the clock of the simulated process that runs now is ahead of the server's; only in the simulating process. */
EXPORT int64_t control_offset_us;

static int64_t virtual_us(void) { return LOAD(page->now_us) + control_offset_us; }

EXPORT int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  resolve();
  if (!page || !page->on) return real.gettimeofday(now, zone);
  int64_t us = virtual_us();
  now->tv_sec = us / 1000000, now->tv_usec = us % 1000000;
  return 0;
}

EXPORT time_t time(time_t *result) {
  resolve();
  if (!page || !page->on) return real.time(result);
  time_t seconds = virtual_us() / 1000000;
  if (result) *result = seconds;
  return seconds;
}

/* CLOCK_MONOTONIC too, but of registered backends only: PostgreSQL subtracts it from the timeouts of its waits. */
EXPORT int clock_gettime(clockid_t clock, struct timespec *now) {
  resolve();
  int ours = page && page->on && (clock == CLOCK_REALTIME || (clock == CLOCK_MONOTONIC && mine()));
  if (!ours) return real.clock_gettime(clock, now);
  int64_t us = virtual_us() - (clock == CLOCK_MONOTONIC ? LOAD(page->jump_us) : 0);
  now->tv_sec = us / 1000000, now->tv_nsec = us % 1000000 * 1000;
  return 0;
}

/* PostgreSQL sets no new alarm while it believes an earlier one pending, and lets those that it no longer needs run out. So
 * each is remembered: also the one that was set, in earnest too, before the backend was registered. */
static int64_t alarm_us;

EXPORT int setitimer(__itimer_which_t which, const struct itimerval *new, struct itimerval *old) {
  resolve();
  if (which != ITIMER_REAL || !serving) return real.setitimer(which, new, old);
  int64_t us = new->it_value.tv_sec * 1000000LL + new->it_value.tv_usec;
  STORE(alarm_us, us ? LOAD(page->now_us) + us : 0);
  struct slot *slot = mine();
  if (!slot) return real.setitimer(which, new, old);
  STORE(slot->timer_us, alarm_us);
  if (old) memset(old, 0, sizeof *old);   /* PostgreSQL never asks */
  return 0;
}

void alarm_went_off(void) { STORE(alarm_us, 0); }

void take_over_alarm(struct slot *slot) {
  static const struct itimerval none;
  real.setitimer(ITIMER_REAL, &none, NULL);
  STORE(slot->timer_us, alarm_us);
}

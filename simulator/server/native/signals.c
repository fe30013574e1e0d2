/* Signals: who was sent one, who was woken, and whether it has been taken in. */
#include "control.h"

static const int counted[SIGNALS] = {SIGUSR1, SIGINT, SIGTERM, SIGALRM};

static int index_of(int number) {
  for (int i = 0; i < SIGNALS; i++)
    if (counted[i] == number) return i;
  return -1;
}

/* Counted before it is sent: the receiver may take it in before kill returns. */
EXPORT int kill(pid_t pid, int number) {
  resolve();
  pid_t target = pid < -1 ? -pid : pid;   /* PostgreSQL signals the group that a backend leads */
  int which = index_of(number);
  if (serving && target > 0 && (which >= 0 || number == SIGURG || number == 0)) {
    struct slot *slot = slot_of((uint32_t)target);
    /* Asked whether it still lives: the kernel would say yes, or no, or yes as long as the postmaster has not buried it. */
    if (slot && number == 0) return LOAD(slot->state) == GONE ? (errno = ESRCH, -1) : 0;
    if (slot && which >= 0 && target != getpid()) ADD(slot->sent[which], 1), ADD(page->attention, 1);
    if (slot && LOAD(slot->state) == BLOCKED) STORE(slot->woken, 1), ADD(page->attention, 1);
  }
  return real.kill(pid, number);
}

static void (*original[SIGNALS])(int, siginfo_t *, void *);

/* A signal counts as taken in when its handler has run. That leaves the latch set, so the backend is not waiting for its
 * client any more, even if it seemed to be: it must come round once. */
static void take_in(int number, siginfo_t *about, void *context) {
  int saved = errno, which = index_of(number);
  struct slot *slot = mine();
  uint32_t sent = slot ? LOAD(slot->sent[which]) : 0, serial = slot ? slot->serial : 0;
  if (number == SIGALRM) alarm_went_off();   /* its handler may set the next */
  original[which](number, about, context);
  if (slot && slot == mine() && slot->serial == serial) {
    STORE(slot->idle, 0);
    STORE(slot->handled[which], sent);
    if (LOAD(slot->watch)) ring();
  }
  errno = saved;
}

EXPORT int sigaction(int number, const struct sigaction *new, struct sigaction *old) {
  resolve();
  int which = index_of(number);
  if (!serving || which < 0) return real.sigaction(number, new, old);
  void (*before)(int, siginfo_t *, void *) = original[which];
  struct sigaction ours;
  if (new && new->sa_handler != SIG_IGN && new->sa_handler != SIG_DFL) {
    ours = *new;
    original[which] = new->sa_sigaction;
    ours.sa_sigaction = take_in;
    new = &ours;
  }
  int done = real.sigaction(number, new, old);
  if (!done && old && old->sa_sigaction == take_in) old->sa_sigaction = before;
  return done;
}

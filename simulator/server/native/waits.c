/* Waits: for locks and the clock, which the simulator ends, and for the client. */
#include "control.h"

static uint32_t **wait_info;
static const char *(*wait_name)(uint32_t);

/* A barrier waits for all processes: for ours that are held, and for the blocked, which it has woken to take part. */
static int another_must_go_on(struct slot *self) {
  for (struct slot *slot = slots; slot < slots + LOAD(page->used); slot++)
    if (slot != self && slot->pid && (slot->state == HELD || (slot->state == BLOCKED && slot->woken))) return 1;
  return 0;
}

/* Waits that other sessions or the clock end are the simulator's. Those for background processes end by themselves. */
static int is_controlled(struct slot *slot, uint32_t info) {
  switch (info >> 24) {
    case 0x03: case 0x04: case 0x09: return 1;   /* Lock, BufferPin, Timeout */
    case 0x08: break;                            /* IPC */
    default: return 0;
  }
  const char *name = wait_name(info);
  if (!strcmp(name, "SafeSnapshot") || !strcmp(name, "BackendTermination")) return 1;
  return !strcmp(name, "ProcSignalBarrier") && another_must_go_on(slot);
}

/* SIGSTOP and SIGCONT end an epoll_wait. So do handlers, but they set the latch, and that marks us. */
static int is_stop_and_continue(int count, uint32_t marked) { return count < 0 && errno == EINTR && !marked; }

/* Normally who woke us has said so already; a handler of our own, or a process that nobody controls, has not. */
static void awake(struct slot *slot) {
  int said = __atomic_exchange_n(&slot->woken, 1, __ATOMIC_SEQ_CST);
  if (!said) ADD(page->attention, 1);
  if (!said || LOAD(slot->watch)) ring();
}

static int controlled_wait(struct slot *slot, uint32_t info, int fd, struct epoll_event *events, int most, int timeout) {
  int count = real.epoll_wait(fd, events, most, 0);
  if (count) return count;
  slot->wait_info = info;
  strncpy(slot->wait_event, wait_name(info), sizeof slot->wait_event - 1);
  slot->until_us = timeout < 0 ? 0 : LOAD(page->now_us) + timeout * 1000LL;
  STORE(slot->woken, 0);
  stop_as(slot, BLOCKED);
  do count = real.epoll_wait(fd, events, most, -1);
  while (is_stop_and_continue(count, LOAD(slot->woken)));
  int saved = errno;
  if (mine() == slot && LOAD(slot->state) == BLOCKED) awake(slot);
  await_grant(slot);
  errno = saved;
  return count;
}

static int client_wait(uint32_t what, int fd, struct epoll_event *events, int most, int timeout) {
  struct slot *slot = mine();
  if (slot) {
    STORE(slot->idle, what);
    if (LOAD(slot->watch)) ring();
  }
  int count, saved;
  do {
    count = real.epoll_wait(fd, events, most, timeout);
    saved = errno;
    slot = mine();   /* it may have been registered meanwhile */
  } while (slot && is_stop_and_continue(count, !LOAD(slot->idle)));
  if (slot) STORE(slot->idle, 0), before_message(slot);
  errno = saved;
  return count;
}

EXPORT int epoll_wait(int fd, struct epoll_event *events, int most, int timeout) {
  resolve();
  if (timeout == 0 || !serving) return real.epoll_wait(fd, events, most, timeout);
  uint32_t info = **wait_info;
  if (info >> 24 == 0x06 && (info & 0xffff) < SENDING) return client_wait((info & 0xffff) + 1, fd, events, most, timeout);
  struct slot *slot = mine();
  if (!slot || !is_controlled(slot, info)) return real.epoll_wait(fd, events, most, timeout);
  return controlled_wait(slot, info, fd, events, most, timeout);
}

void take_waits(void) {
  *(void **)&wait_name = find("pgstat_get_wait_event");
  wait_info = find("my_wait_event_info");
}

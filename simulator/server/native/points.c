/* Points: around statements, those inside functions included, and around COMMIT. */
#include "control.h"

static void point(uint32_t kind) {
  struct slot *slot = mine();
  if (!slot) return;
  slot->points++;
  if (!slot->arm || !(slot->arm_kinds & kind) || --slot->arm) return;
  slot->point = kind;
  stop_as(slot, HELD);
  await_grant(slot);
}

typedef void (*executor_start)(void *, int);
typedef void (*executor_end)(void *);
typedef void (*transaction_callback)(int, void *);
static executor_start standard_start;
static executor_end standard_end;
static void (*register_callback)(transaction_callback, void *);
static void (*seed_generator)(void *, uint64_t);
static void *generator;
static void (*report_statistics_next)(void);
static void (*set_option)(const char *, const char *, int context, int source);
enum { ANY_USER = 6, FROM_CLIENT = 9 };   /* of GucContext and GucSource, the same in 15 to 18 */

/* We are the first to set the hooks, so there is nobody to hand on to but PostgreSQL itself. */
static void at_start(void *query, int flags) { point(AT_START), standard_start(query, flags); }
static void at_end(void *query) { standard_end(query), point(AT_END); }

/* The numbers of XactEvent, the same in 15 to 18. */
static void at_transaction(int event, void *argument) {
  static const uint32_t kinds[] = {[0] = COMMITTED, [2] = ABORTED, [4] = PREPARED, [5] = BEFORE_COMMIT, [7] = BEFORE_COMMIT};
  (void)argument;
  if (event >= 0 && event < (int)(sizeof kinds / sizeof *kinds) && kinds[event]) point(kinds[event]);
}

/* PostgreSQL may allocate here. */
static void welcome(struct slot *slot) {
  static uint32_t registered;
  if (slot->welcomed == slot->serial) return;
  if (registered != slot->pid) registered = slot->pid, register_callback(at_transaction, NULL);
  seed_generator(generator, slot->seed);   /* TABLESAMPLE and the like */
  take_over_alarm(slot);
  if (slot->name[0]) set_option("application_name", slot->name, ANY_USER, FROM_CLIENT);   /* what RESET leads to */
  STORE(slot->welcomed, slot->serial);
}

/* Statistics are reported after every statement. PostgreSQL would put that off, with a timer, or not: which depends on what
 * the backend has cached, and when it last reported. */
void before_message(struct slot *slot) {
  welcome(slot);
  choose_syncs(slot);
  report_statistics_next();
}

void take_points(void) {
  executor_start *start_hook = find("ExecutorStart_hook");
  executor_end *end_hook = find("ExecutorEnd_hook");
  *(void **)&standard_start = find("standard_ExecutorStart");
  *(void **)&standard_end = find("standard_ExecutorEnd");
  *(void **)&register_callback = find("RegisterXactCallback");
  *(void **)&seed_generator = find("pg_prng_seed");
  generator = find("pg_global_prng_state");
  *(void **)&set_option = find("SetConfigOption");
  *(void **)&report_statistics_next = find("pgstat_force_next_flush");
  if (page->error[0]) return;
  *start_hook = at_start, *end_hook = at_end;
  report_statistics_next();   /* whatever is forked from here on: what a backend does before it is registered */
}

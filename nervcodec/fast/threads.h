/* A few threads that wait for pieces of work: what one operation of a training takes is too short
 * to start threads for. Which thread does which piece makes no difference to the result. */

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

#define MAX_THREADS 64
#define SPINS 2000 /* looks at what is waited for before a thread sleeps: some ten microseconds */
#define PATIENCE 300000 /* nanoseconds of waiting for others that tell of a busy machine */
#define ALONE 500       /* operations that are then done without others */

typedef void (*piece_function)(void *data, long piece);

static struct {
    pthread_mutex_t in_use; /* held by who gives out work */
    pthread_mutex_t mutex;
    pthread_cond_t wake, done;
    int started, sleeping, alone;
    atomic_int wanted;
    atomic_long generation, next, unfinished;
    atomic_int inside; /* threads that may still look at the work */
    piece_function function;
    void *data;
    long pieces;
} pool = {.in_use = PTHREAD_MUTEX_INITIALIZER,
          .mutex = PTHREAD_MUTEX_INITIALIZER,
          .wake = PTHREAD_COND_INITIALIZER,
          .done = PTHREAD_COND_INITIALIZER,
          .wanted = 1};

static inline void pause_briefly(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void work_off(void)
{
    for (;;) {
        long piece = atomic_fetch_add(&pool.next, 1);
        if (piece >= pool.pieces)
            return;
        pool.function(pool.data, piece);
        if (atomic_fetch_sub(&pool.unfinished, 1) == 1) {
            pthread_mutex_lock(&pool.mutex);
            pthread_cond_signal(&pool.done);
            pthread_mutex_unlock(&pool.mutex);
        }
    }
}

/* Thread `number` of those beside the one that gives out work. */
static void *worker(void *number)
{
    long seen = 0;
    for (;;) {
        int spins = 0;
        while (atomic_load(&pool.generation) == seen && spins++ < SPINS)
            pause_briefly();
        if (atomic_load(&pool.generation) == seen) {
            pthread_mutex_lock(&pool.mutex);
            pool.sleeping++;
            while (atomic_load(&pool.generation) == seen)
                pthread_cond_wait(&pool.wake, &pool.mutex);
            pool.sleeping--;
            pthread_mutex_unlock(&pool.mutex);
        }
        atomic_fetch_add(&pool.inside, 1);
        /* An odd generation is work that may be begun; an even one has ended. */
        seen = atomic_load(&pool.generation);
        if (seen % 2 && (intptr_t)number < atomic_load(&pool.wanted) - 1)
            work_off();
        atomic_fetch_sub(&pool.inside, 1);
    }
    return NULL;
}

static void advance(void)
{
    pthread_mutex_lock(&pool.mutex);
    atomic_fetch_add(&pool.generation, 1);
    if (pool.sleeping && atomic_load(&pool.generation) % 2)
        pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.mutex);
}

/* After a fork there are no threads but the one that forked. */
static void forget_threads(void)
{
    pthread_mutex_init(&pool.in_use, NULL);
    pthread_mutex_init(&pool.mutex, NULL);
    pthread_cond_init(&pool.wake, NULL);
    pthread_cond_init(&pool.done, NULL);
    pool.started = pool.sleeping = pool.alone = 0;
    atomic_store(&pool.generation, 0);
    atomic_store(&pool.inside, 0);
}

static void start_threads(void)
{
    static int watched;
    if (!watched)
        watched = pthread_atfork(NULL, NULL, forget_threads) == 0;
    while (watched && pool.started < atomic_load(&pool.wanted) - 1) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, worker, (void *)(intptr_t)pool.started) != 0)
            return; /* fewer threads do it, too */
        pthread_detach(thread);
        pool.started++;
    }
}

/* Wait until all pieces are done. On a machine that has other work, a thread can be held up in
 * the middle of a piece for milliseconds, time after time: then one thread alone is faster. */
static void await_pieces(void)
{
    for (int spins = 0; spins < SPINS; spins++) {
        if (atomic_load(&pool.unfinished) == 0)
            return;
        pause_briefly();
    }
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    pthread_mutex_lock(&pool.mutex);
    while (atomic_load(&pool.unfinished) > 0)
        pthread_cond_wait(&pool.done, &pool.mutex);
    pthread_mutex_unlock(&pool.mutex);
    clock_gettime(CLOCK_MONOTONIC, &end);
    if ((end.tv_sec - begin.tv_sec) * 1000000000L + end.tv_nsec - begin.tv_nsec > PATIENCE)
        pool.alone = ALONE;
}

/* Do all pieces, in as many threads as were asked for. */
static void in_pieces(long pieces, piece_function function, void *data)
{
    int own = pieces > 1 && atomic_load(&pool.wanted) > 1 &&
              pthread_mutex_trylock(&pool.in_use) == 0;
    if (!own || pool.alone > 0) {
        for (long piece = 0; piece < pieces; piece++)
            function(data, piece);
        if (own) {
            pool.alone--;
            pthread_mutex_unlock(&pool.in_use);
        }
        return;
    }
    start_threads();
    pool.function = function;
    pool.data = data;
    pool.pieces = pieces;
    atomic_store(&pool.next, 0);
    atomic_store(&pool.unfinished, pieces);
    advance();
    work_off();
    await_pieces();
    advance();
    /* Who looked at this work must have gone before it is replaced. */
    for (int spins = 0; atomic_load(&pool.inside) > 0; spins++)
        spins < SPINS ? pause_briefly() : (void)sched_yield();
    pthread_mutex_unlock(&pool.in_use);
}

/* The same of maps, a piece each, of so many values; of few in this thread alone. */
static void in_maps(long maps, long values, piece_function function, void *data)
{
    if (maps * values >= LEAST_VALUES)
        in_pieces(maps, function, data);
    else
        for (long map = 0; map < maps; map++)
            function(data, map);
}

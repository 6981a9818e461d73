/* Counts the system calls of the processes that are started with this in LD_PRELOAD. Each keeps its counts in a file of
 * the folder COUNT_CALLS_IN with its pid for a name: the numbers of CALLS, 8 bytes each, in its order. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum call { SEND, RECV, READ, WRITE, POLL, EPOLL_WAIT, EPOLL_CTL, CALLS };

static unsigned long long nowhere[CALLS];
static unsigned long long *counts = nowhere;

static void open_counts(void)
{
    char path[4096];
    const char *folder = getenv("COUNT_CALLS_IN");
    if (folder == NULL || snprintf(path, sizeof path, "%s/%d", folder, getpid()) >= (int)sizeof path)
        return;
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || ftruncate(file, sizeof nowhere))
        return;
    void *there = mmap(NULL, sizeof nowhere, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (there != MAP_FAILED)
        counts = there;
    close(file);
}

__attribute__((constructor)) static void begin(void)
{
    open_counts();
}

/* The real function, found once. */
#define REAL(name, type)                                    \
    static type *real;                                      \
    if (real == NULL)                                       \
        real = (type *)dlsym(RTLD_NEXT, name)

static void count(enum call which)
{
    __atomic_fetch_add(&counts[which], 1, __ATOMIC_RELAXED);
}

typedef ssize_t sending(int, const void *, size_t, int);
ssize_t send(int fd, const void *data, size_t size, int flags)
{
    REAL("send", sending);
    count(SEND);
    return real(fd, data, size, flags);
}

typedef ssize_t receiving(int, void *, size_t, int);
ssize_t recv(int fd, void *data, size_t size, int flags)
{
    REAL("recv", receiving);
    count(RECV);
    return real(fd, data, size, flags);
}

typedef ssize_t reading(int, void *, size_t);
ssize_t read(int fd, void *data, size_t size)
{
    REAL("read", reading);
    count(READ);
    return real(fd, data, size);
}

typedef ssize_t writing(int, const void *, size_t);
ssize_t write(int fd, const void *data, size_t size)
{
    REAL("write", writing);
    count(WRITE);
    return real(fd, data, size);
}

typedef int polling(struct pollfd *, nfds_t, int);
int poll(struct pollfd *fds, nfds_t number, int timeout)
{
    REAL("poll", polling);
    count(POLL);
    return real(fds, number, timeout);
}

typedef int waiting(int, struct epoll_event *, int, int);
int epoll_wait(int epoll, struct epoll_event *events, int most, int timeout)
{
    REAL("epoll_wait", waiting);
    count(EPOLL_WAIT);
    return real(epoll, events, most, timeout);
}

typedef int controlling(int, int, int, struct epoll_event *);
int epoll_ctl(int epoll, int what, int fd, struct epoll_event *event)
{
    REAL("epoll_ctl", controlling);
    count(EPOLL_CTL);
    return real(epoll, what, fd, event);
}

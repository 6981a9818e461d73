/* A disk that fails with EIO: what is written where FAIL_WRITE_WHILE is there, what is synced where FAIL_SYNC_WHILE is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int failing(const char *variable)
{
    const char *path = getenv(variable);
    int before = errno, found = path != NULL && access(path, F_OK) == 0;
    errno = found ? EIO : before;
    return found;
}

typedef ssize_t writing(int, const void *, size_t, off64_t);
typedef int syncing(int);

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    static writing *real;
    if (real == NULL)
        real = (writing *)dlsym(RTLD_NEXT, "pwrite64");
    return failing("FAIL_WRITE_WHILE") ? -1 : real(fd, data, size, offset);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    return pwrite64(fd, data, size, offset);
}

int fsync(int fd)
{
    static syncing *real;
    if (real == NULL)
        real = (syncing *)dlsym(RTLD_NEXT, "fsync");
    return failing("FAIL_SYNC_WHILE") ? -1 : real(fd);
}

int fdatasync(int fd)
{
    static syncing *real;
    if (real == NULL)
        real = (syncing *)dlsym(RTLD_NEXT, "fdatasync");
    return failing("FAIL_SYNC_WHILE") ? -1 : real(fd);
}

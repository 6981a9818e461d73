/* The physical limit: a server that only calls send().
 *
 * Prints the port that it listens on. Takes whoever connects, with a request that it answers with 101 as if it were a
 * websocket's. For each line on its standard input, "STAMP SIZE", it sends one frame to each of them: a message with so
 * many bytes of text, and the stamp. Ends with its input. A client that does not read is closed.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define LARGEST 65535
#define LINES 65536

static const char ANSWER[] = "HTTP/1.1 101 Switching Protocols\r\n\r\n";

/* Room for the longest head of a frame (RFC 6455 section 5.2) and for a message around the text. */
#define HEAD 4
#define AROUND 64

static int *clients, count, room;
static char filling[LARGEST], frame[HEAD + LARGEST + AROUND], lines[LINES + 1];
static size_t kept;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int listen_on_loopback(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096) ||
        getsockname(listener, (struct sockaddr *)&address, &size))
        fail("listen");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

static void take_one(int listener) {
    char request[4096];
    int on = 1, client = accept(listener, NULL, NULL);
    if (client < 0)
        fail("accept");
    if (read(client, request, sizeof request) <= 0 || send(client, ANSWER, sizeof ANSWER - 1, MSG_NOSIGNAL) < 0 ||
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on)) {
        close(client);
        return;
    }
    if (count == room && !(clients = realloc(clients, (room += 1024) * sizeof *clients)))
        fail("memory");
    clients[count++] = client;
}

/* A websocket's text frame around one message like the server's. Where it begins; its size goes into *total. */
static char *make_frame(long long stamp, int size, size_t *total) {
    int length = snprintf(frame + HEAD, sizeof frame - HEAD, "[{\"text\":\"@@%.*s\",\"t\":%lld}]", size - 2, filling, stamp);
    char *begin = frame + (length < 126 ? 2 : 0);
    begin[0] = (char)0x81;
    begin[1] = (char)(length < 126 ? length : 126);
    if (length >= 126) {
        begin[2] = (char)(length >> 8);
        begin[3] = (char)length;
    }
    *total = frame + HEAD + length - begin;
    return begin;
}

static void send_to_all(const char *begin, size_t total) {
    for (int i = 0; i < count; i++)
        if (send(clients[i], begin, total, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
            close(clients[i]);
            clients[i--] = clients[--count];
        }
}

/* Carries out whole lines, and keeps the rest. Returns whether there was any input. */
static int read_lines(void) {
    ssize_t got = read(STDIN_FILENO, lines + kept, LINES - kept);
    char *line = lines, *end;
    long long stamp;
    size_t total;
    int size;
    if (got <= 0)
        return 0;
    lines[kept += got] = 0;
    for (; (end = strchr(line, '\n')); line = end + 1)
        if (sscanf(line, "%lld %d", &stamp, &size) == 2 && size >= 2 && size <= LARGEST - AROUND) {
            char *begin = make_frame(stamp, size, &total);
            send_to_all(begin, total);
        }
    kept = lines + kept - line;
    memmove(lines, line, kept);
    return 1;
}

int main(void) {
    struct pollfd what[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.events = POLLIN}};
    struct rlimit descriptors;
    if (!getrlimit(RLIMIT_NOFILE, &descriptors)) {
        descriptors.rlim_cur = descriptors.rlim_max;
        setrlimit(RLIMIT_NOFILE, &descriptors);
    }
    memset(filling, 'x', sizeof filling);
    what[1].fd = listen_on_loopback();
    for (;;) {
        if (poll(what, 2, -1) < 0)
            fail("poll");
        if (what[1].revents)
            take_one(what[1].fd);
        if (what[0].revents && !read_lines())
            return 0;
    }
}

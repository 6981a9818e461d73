/* The physical limit: a server that only calls send().
 *
 * usage: floor CLIENTS PAYLOAD
 * Prints the port that it listens on. Takes CLIENTS connections, each with a request that it answers with 101 as if it
 * were a websocket's. Then, for each line on its standard input, sends one frame of PAYLOAD bytes to each of them, with
 * the time of the line in it. Ends with its input. A client that does not read is closed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const char ANSWER[] = "HTTP/1.1 101 Switching Protocols\r\n\r\n";

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

static int accept_one(int listener) {
    char request[4096];
    int on = 1, client = accept(listener, NULL, NULL);
    if (client < 0 || read(client, request, sizeof request) <= 0 ||
        send(client, ANSWER, sizeof ANSWER - 1, MSG_NOSIGNAL) < 0 ||
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on))
        fail("accept");
    return client;
}

/* A websocket's text frame (RFC 6455 section 5.2) around one message like the server's. */
static size_t make_frame(char *frame, size_t payload, long long sent_ns) {
    int head = payload < 126 ? 2 : 4;
    memset(frame + head, 'x', payload);
    frame[0] = (char)0x81;
    frame[1] = (char)(payload < 126 ? payload : 126);
    if (head == 4) {
        frame[2] = (char)(payload >> 8);
        frame[3] = (char)payload;
    }
    int length = snprintf(frame + head, payload, "[{\"text\":\"@@\",\"t\":%lld,\"more\":\"", sent_ns);
    frame[head + length] = 'x';
    memcpy(frame + head + payload - 3, "\"}]", 3);
    return head + payload;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: floor CLIENTS PAYLOAD\n");
        return 2;
    }
    int count = atoi(argv[1]), payload = atoi(argv[2]);
    if (count < 1 || payload < 80 || payload > 65535) {
        fprintf(stderr, "floor: at least one client, and 80 to 65535 bytes\n");
        return 2;
    }
    int *clients = calloc(count, sizeof *clients);
    char *frame = malloc(payload + 4), line[64];
    if (!clients || !frame)
        fail("memory");
    int listener = listen_on_loopback();
    for (int i = 0; i < count; i++)
        clients[i] = accept_one(listener);
    while (fgets(line, sizeof line, stdin)) {
        size_t size = make_frame(frame, payload, atoll(line));
        for (int i = 0; i < count; i++)
            if (clients[i] >= 0 && send(clients[i], frame, size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
                close(clients[i]);
                clients[i] = -1;
            }
    }
    return 0;
}

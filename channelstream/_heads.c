/* The heads that clients really send, read in one pass. All others, and all errors, are for http_reader.py.
 *
 * plain_head(raw): what a whole head means, with the empty line at its end; None where it is not plain. A plain head is
 * one that http_reader.py takes, and llhttp with it, since RFC 9112 leaves nothing in it for two readers to differ about:
 *
 * - HTTP/1.1, a method of the API, and a path that is visible ASCII with nothing to decode (sections 3 and 3.2.1);
 * - lines that end with CR LF and nothing else, and hold no control character but tabs in a value (2.2 and 5.5);
 * - names of letters, digits and hyphens, right before their colon, none of them twice, no folding (5, 5.1, 5.2);
 * - one Host, of the simplest kind (3.2);
 * - a body whose end only Content-Length can say, in digits (6.3): no Transfer-Encoding (6.1);
 * - nothing that asks for something else first: no Expect, no Upgrade but to websocket.
 *
 * That is a promise of this file, and tests/test_http_reader.py holds it up: whatever is plain, the other way takes and
 * means the same by. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <string.h>

/* The same as in http_reader.py: a head with more is refused. */
#define MAX_HEADERS 64

/* Bytes of a name. The longest that browsers send has some 40. */
#define MAX_NAME 64

#define MAX_LENGTH_DIGITS 10
#define MAX_PORT_DIGITS 5

/* What is known by now of a head. */
typedef struct {
    PyObject *headers;
    int has_host;
    int keep_alive;
} Meaning;

/* A piece of the head. */
typedef struct {
    const char *start;
    Py_ssize_t size;
} Part;

/* What is still to be read of it. `at` is never beyond `end`. */
typedef struct {
    const char *at;
    const char *end;
} Rest;

static int is_digit(unsigned char one) { return one >= '0' && one <= '9'; }

static int is_letter(unsigned char one) { return (one | 0x20) >= 'a' && (one | 0x20) <= 'z'; }

static int in_name(unsigned char one) { return is_letter(one) || is_digit(one) || one == '-'; }

static int in_host(unsigned char one) { return in_name(one) || one == '.'; }

static int in_value(unsigned char one) { return (one >= ' ' && one < 0x7f) || one == '\t'; }

static int in_query(unsigned char one) { return one > ' ' && one < 0x7f && one != '#'; }

static int in_path(unsigned char one) { return in_query(one) && one != '%' && one != '?'; }

/* Whether `text` comes next, and is behind us now. */
static int take(Rest *rest, const char *text) {
    size_t size = strlen(text);
    if ((size_t)(rest->end - rest->at) < size || memcmp(rest->at, text, size) != 0)
        return 0;
    rest->at += size;
    return 1;
}

static inline Part take_all(Rest *rest, int (*fits)(unsigned char)) {
    Part part = {rest->at, 0};
    while (rest->at < rest->end && fits((unsigned char)*rest->at))
        rest->at++;
    part.size = rest->at - part.start;
    return part;
}

static int is_blank(char one) { return one == ' ' || one == '\t'; }

static Part trimmed(Part part) {
    while (part.size && is_blank(part.start[0]))
        part.start++, part.size--;
    while (part.size && is_blank(part.start[part.size - 1]))
        part.size--;
    return part;
}

/* Whether it is `text`, letter by letter. */
static int is(Part part, const char *text) {
    return (size_t)part.size == strlen(text) && memcmp(part.start, text, (size_t)part.size) == 0;
}

/* Whether it is `word`, which is of small letters, in whatever case. */
static int is_word(Part part, const char *word) {
    if ((size_t)part.size != strlen(word))
        return 0;
    for (Py_ssize_t place = 0; place < part.size; place++)
        if ((part.start[place] | 0x20) != word[place])
            return 0;
    return 1;
}

static PyObject *text_of(Part part) {
    PyObject *text = PyUnicode_New(part.size, 127);
    if (text != NULL)
        memcpy(PyUnicode_1BYTE_DATA(text), part.start, (size_t)part.size);
    return text;
}

/* A name and, if need be, a port in digits. */
static int is_plain_host(Part value) {
    Rest rest = {value.start, value.start + value.size};
    if (take_all(&rest, in_host).size == 0)
        return 0;
    if (take(&rest, ":")) {
        Py_ssize_t digits = take_all(&rest, is_digit).size;
        if (digits == 0 || digits > MAX_PORT_DIGITS)
            return 0;
    }
    return rest.at == rest.end;
}

static int is_plain_length(Part value) {
    Rest rest = {value.start, value.start + value.size};
    Py_ssize_t digits = take_all(&rest, is_digit).size;
    return digits > 0 && digits <= MAX_LENGTH_DIGITS && rest.at == rest.end;
}

/* Whether `close` is one of the options, which have commas between them. */
static int says_close(Part value) {
    const char *start = value.start, *end = value.start + value.size;
    for (const char *at = start; at <= end; at++) {
        if (at < end && *at != ',')
            continue;
        if (is_word(trimmed((Part){start, at - start}), "close"))
            return 1;
        start = at + 1;
    }
    return 0;
}

/* What the header means for the head; 0 where it is not plain. `key`: its name in an environ of WSGI, but for HTTP_. */
static int understand(Meaning *meaning, Part key, Part value) {
    if (is(key, "HOST"))
        return meaning->has_host = is_plain_host(value);
    if (is(key, "CONNECTION")) {
        meaning->keep_alive = !says_close(value);
        return 1;
    }
    if (is(key, "CONTENT_LENGTH"))
        return is_plain_length(value);
    if (is(key, "UPGRADE"))
        return is_word(value, "websocket");
    return !is(key, "TRANSFER_ENCODING") && !is(key, "EXPECT") && !is(key, "PROXY");
}

/* Puts it among the headers. 0: it is there already; -1: there is an exception. */
static int add(PyObject *headers, Part key, Part value) {
    PyObject *name = text_of(key), *text = text_of(value);
    Py_ssize_t before = PyDict_GET_SIZE(headers);
    PyObject *there = name != NULL && text != NULL ? PyDict_SetDefault(headers, name, text) : NULL;
    Py_XDECREF(name);
    Py_XDECREF(text);
    if (there == NULL)
        return -1;
    return PyDict_GET_SIZE(headers) > before;
}

/* One header line. 0: not plain; -1: there is an exception. */
static int take_header(Rest *rest, Meaning *meaning) {
    char environ_name[5 + MAX_NAME] = "HTTP_";
    Part name = take_all(rest, in_name);
    if (name.size == 0 || name.size > MAX_NAME || !take(rest, ":"))
        return 0;
    Part value = trimmed(take_all(rest, in_value));
    if (!take(rest, "\r\n"))
        return 0;
    Part key = {environ_name + 5, name.size};
    for (Py_ssize_t place = 0; place < name.size; place++) {
        char one = name.start[place];
        environ_name[5 + place] = one == '-' ? '_' : is_letter((unsigned char)one) ? (char)(one & ~0x20) : one;
    }
    if (!understand(meaning, key, value))
        return 0;
    if (!is(key, "CONTENT_LENGTH") && !is(key, "CONTENT_TYPE"))
        key = (Part){environ_name, 5 + name.size};
    return add(meaning->headers, key, value);
}

/* All header lines and the end of the head. 0: not plain; -1: there is an exception. */
static int take_headers(Rest *rest, Meaning *meaning) {
    for (int count = 0; !take(rest, "\r\n"); count++) {
        int taken = count < MAX_HEADERS ? take_header(rest, meaning) : 0;
        if (taken <= 0)
            return taken;
    }
    return meaning->has_host && rest->at == rest->end;
}

/* The method and the space behind it; NULL where it is not one of the API's. */
static const char *take_method(Rest *rest) {
    static const char *const methods[] = {"GET", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS"};
    for (size_t place = 0; place < sizeof methods / sizeof *methods; place++)
        if (take(rest, methods[place]))
            return take(rest, " ") ? methods[place] : NULL;
    return NULL;
}

/* Method, path, query, version, headers, and whether the connection persists. */
static PyObject *told(const char *method, Part path, Part query, const Meaning *meaning) {
    PyObject *parts[] = {
        PyUnicode_InternFromString(method), text_of(path), text_of(query), PyUnicode_InternFromString("HTTP/1.1"),
        Py_NewRef(meaning->headers), PyBool_FromLong(meaning->keep_alive),
    };
    Py_ssize_t count = sizeof parts / sizeof *parts;
    PyObject *all = PyTuple_New(count);
    for (Py_ssize_t place = 0; place < count; place++) {
        if (parts[place] == NULL)
            Py_CLEAR(all);
        if (all == NULL)
            Py_XDECREF(parts[place]);
        else
            PyTuple_SET_ITEM(all, place, parts[place]);
    }
    return all;
}

static PyObject *plain_head(PyObject *Py_UNUSED(module), PyObject *raw) {
    if (!PyBytes_Check(raw)) {
        PyErr_SetString(PyExc_TypeError, "a head is not bytes");
        return NULL;
    }
    Rest rest = {PyBytes_AS_STRING(raw), PyBytes_AS_STRING(raw) + PyBytes_GET_SIZE(raw)};
    const char *method = take_method(&rest);
    Part path = take_all(&rest, in_path), query = {path.start, 0};
    if (method == NULL || path.size == 0 || path.start[0] != '/')
        Py_RETURN_NONE;
    if (take(&rest, "?"))
        query = take_all(&rest, in_query);
    if (!take(&rest, " HTTP/1.1\r\n"))
        Py_RETURN_NONE;
    Meaning meaning = {.headers = PyDict_New(), .keep_alive = 1};
    if (meaning.headers == NULL)
        return NULL;
    int taken = take_headers(&rest, &meaning);
    PyObject *all = taken > 0 ? told(method, path, query, &meaning) : taken < 0 ? NULL : Py_NewRef(Py_None);
    Py_DECREF(meaning.headers);
    return all;
}

static PyMethodDef methods[] = {
    {"plain_head", plain_head, METH_O, "See channelstream.http_reader."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "_heads", .m_doc = "See channelstream.http_reader.", .m_size = 0, .m_methods = methods,
};

PyMODINIT_FUNC PyInit__heads(void) {
    return PyModuleDef_Init(&module);
}

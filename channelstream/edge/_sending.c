/* The innermost loop of the server: ready bytes to many sockets, one send() each and nothing between two of them.
 *
 * send_to_each(descriptors, frames): see sending.py, which has the same in Python and says what comes back. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <sys/socket.h>
#include <sys/types.h>

#define NOT_DIRECT (-1)
#define BROKEN (-2)

typedef struct {
    int descriptor;
    const char *data;
    Py_ssize_t size;
    Py_ssize_t sent;
} Delivery;

/* What a socket has taken: all, a part, 0 where it has no room, or BROKEN. */
static Py_ssize_t send_one(const Delivery *one) {
    ssize_t sent;
    do
        sent = send(one->descriptor, one->data, (size_t)one->size, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0)
        return (Py_ssize_t)sent;
    return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : BROKEN;
}

/* The bytes of frame number `place`; `frames` is one for all, or a list of one for each. */
static int set_frame(Delivery *one, PyObject *frames, Py_ssize_t place) {
    PyObject *frame = PyBytes_Check(frames) ? frames : PyList_GET_ITEM(frames, place);
    if (!PyBytes_Check(frame)) {
        PyErr_SetString(PyExc_TypeError, "a frame is not bytes");
        return -1;
    }
    one->data = PyBytes_AS_STRING(frame);
    one->size = PyBytes_GET_SIZE(frame);
    return 0;
}

static int set_up(Delivery *all, PyObject *descriptors, PyObject *frames, Py_ssize_t count) {
    for (Py_ssize_t place = 0; place < count; place++) {
        all[place].descriptor = (int)PyLong_AsLong(PyList_GET_ITEM(descriptors, place));
        if (all[place].descriptor == -1 && PyErr_Occurred())
            return -1;
        if (set_frame(&all[place], frames, place))
            return -1;
    }
    return 0;
}

/* Those that have not taken all, as pairs of place and outcome. */
static PyObject *left_over(const Delivery *all, Py_ssize_t count) {
    PyObject *left = PyList_New(0);
    for (Py_ssize_t place = 0; left != NULL && place < count; place++) {
        if (all[place].sent == all[place].size)
            continue;
        PyObject *pair = Py_BuildValue("(nn)", place, all[place].sent);
        if (pair == NULL || PyList_Append(left, pair))
            Py_CLEAR(left);
        Py_XDECREF(pair);
    }
    return left;
}

static PyObject *send_to_each(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *descriptors, *frames, *left = NULL;
    if (!PyArg_ParseTuple(args, "O!O", &PyList_Type, &descriptors, &frames))
        return NULL;
    Py_ssize_t count = PyList_GET_SIZE(descriptors);
    if (!PyBytes_Check(frames) && !(PyList_Check(frames) && PyList_GET_SIZE(frames) == count)) {
        PyErr_SetString(PyExc_TypeError, "expected one frame, or a list with one for each descriptor");
        return NULL;
    }
    Delivery *all = PyMem_New(Delivery, count ? count : 1);
    if (all == NULL)
        return PyErr_NoMemory();
    if (set_up(all, descriptors, frames, count) == 0) {
        /* The GIL is kept: no other thread of an edge has Python to run, and with it nobody changes the two lists. */
        for (Py_ssize_t place = 0; place < count; place++)
            all[place].sent = all[place].descriptor < 0 ? NOT_DIRECT : send_one(&all[place]);
        left = left_over(all, count);
    }
    PyMem_Free(all);
    return left;
}

static PyMethodDef methods[] = {
    {"send_to_each", send_to_each, METH_VARARGS, "See channelstream.edge.sending."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "_sending", .m_doc = "See channelstream.edge.sending.", .m_size = 0, .m_methods = methods,
};

PyMODINIT_FUNC PyInit__sending(void) {
    return PyModuleDef_Init(&module);
}

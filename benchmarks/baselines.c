/* Hand-written C for the workloads where it says how fast the machine is: an extension module of METH_FASTCALL
   functions that trust their arguments (C-contiguous arrays of the right dtype and shape) and return new arrays. */

#define PY_SSIZE_T_CLEAN
#define NPY_NO_DEPRECATED_API NPY_1_7_API_VERSION
#include <Python.h>
#include <math.h>
#include <numpy/arrayobject.h>

#define DATA(k) ((const float *)PyArray_DATA((PyArrayObject *)args[k]))
#define DIM(k, axis) PyArray_DIM((PyArrayObject *)args[k], axis)

static float *restrict_data(PyObject *array) { return (float *)PyArray_DATA((PyArrayObject *)array); }

/* x = 0.99 x + u, y = x x; both 0-d. */
static PyObject *scalar_step(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    float x = 0.99f * DATA(0)[0] + DATA(1)[0];
    PyObject *a = PyArray_SimpleNew(0, NULL, NPY_FLOAT), *b = PyArray_SimpleNew(0, NULL, NPY_FLOAT);
    restrict_data(a)[0] = x;
    restrict_data(b)[0] = x * x;
    PyObject *both = PyTuple_Pack(2, a, b);
    Py_DECREF(a);
    Py_DECREF(b);
    return both;
}

static void dense(const float *restrict x, const float *restrict w, const float *restrict bias, float *restrict y,
                  long rows, long columns) {
    for (long j = 0; j < columns; j++) y[j] = bias[j];
    for (long i = 0; i < rows; i++) {
        float xi = x[i];
        for (long j = 0; j < columns; j++) y[j] += xi * w[i * columns + j];
    }
}

/* x, w1, b1, w2, b2, w3, b3: 17-64-64-6 with tanh everywhere. */
static PyObject *policy(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    float h1[64], h2[64];
    npy_intp shape[2] = {1, 6};
    PyObject *out = PyArray_SimpleNew(2, shape, NPY_FLOAT);
    float *y = restrict_data(out);
    dense(DATA(0), DATA(1), DATA(2), h1, 17, 64);
#pragma omp simd
    for (int j = 0; j < 64; j++) h1[j] = tanhf(h1[j]);
    dense(h1, DATA(3), DATA(4), h2, 64, 64);
#pragma omp simd
    for (int j = 0; j < 64; j++) h2[j] = tanhf(h2[j]);
    dense(h2, DATA(5), DATA(6), y, 64, 6);
    for (int j = 0; j < 6; j++) y[j] = tanhf(y[j]);
    return out;
}

/* x (rows, columns), gamma, beta -> normalised rows. */
static PyObject *layer_norm(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    npy_intp rows = DIM(0, 0), columns = DIM(0, 1), shape[2] = {rows, columns};
    PyObject *out = PyArray_SimpleNew(2, shape, NPY_FLOAT);
    const float *restrict gamma = DATA(1), *restrict beta = DATA(2);
    for (npy_intp i = 0; i < rows; i++) {
        const float *restrict x = DATA(0) + i * columns;
        float *restrict y = restrict_data(out) + i * columns;
        float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
        for (npy_intp j = 0; j < columns; j++) sum += x[j];
        float mean = sum / columns;
#pragma omp simd reduction(+ : squares)
        for (npy_intp j = 0; j < columns; j++) squares += (x[j] - mean) * (x[j] - mean);
        float scale = 1 / sqrtf(squares / columns + 1e-5f);
#pragma omp simd
        for (npy_intp j = 0; j < columns; j++) y[j] = (x[j] - mean) * scale * gamma[j] + beta[j];
    }
    return out;
}

/* logits (rows, columns), labels (rows) int32 -> mean loss, its gradient by the logits. */
static PyObject *cross_entropy(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    npy_intp rows = DIM(0, 0), columns = DIM(0, 1), shape[2] = {rows, columns};
    PyObject *loss = PyArray_SimpleNew(0, NULL, NPY_FLOAT), *gradient = PyArray_SimpleNew(2, shape, NPY_FLOAT);
    const int *labels = (const int *)DATA(1);
    float total = 0, share = 1.0f / rows;
    for (npy_intp i = 0; i < rows; i++) {
        const float *restrict x = DATA(0) + i * columns;
        float *restrict g = restrict_data(gradient) + i * columns;
        float largest = x[0], sum = 0;
#pragma omp simd reduction(max : largest)
        for (npy_intp j = 0; j < columns; j++) largest = x[j] > largest ? x[j] : largest;
#pragma omp simd reduction(+ : sum)
        for (npy_intp j = 0; j < columns; j++) {
            float e = expf(x[j] - largest);
            g[j] = e;
            sum += e;
        }
        float scale = share / sum;
#pragma omp simd
        for (npy_intp j = 0; j < columns; j++) g[j] *= scale;
        g[labels[i]] -= share;
        total += logf(sum) + largest - x[labels[i]];
    }
    restrict_data(loss)[0] = total * share;
    PyObject *both = PyTuple_Pack(2, loss, gradient);
    Py_DECREF(loss);
    Py_DECREF(gradient);
    return both;
}

#define METHOD(name) {#name, (PyCFunction)(void (*)(void))name, METH_FASTCALL, NULL}
static PyMethodDef methods[] = {
    METHOD(scalar_step), METHOD(policy), METHOD(layer_norm), METHOD(cross_entropy), {NULL, NULL, 0, NULL}};

#define TEXT(name) #name
#define NAME(name) TEXT(name)
#define JOIN(a, b) a##b
#define INIT(name) JOIN(PyInit_, name)
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, NAME(MODULE), NULL, -1, methods};

PyMODINIT_FUNC INIT(MODULE)(void) {
    import_array();
    return PyModule_Create(&module);
}

/* The functions are called through ctypes; Python only needs a module to import. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "kernels.h"

/* Raised whenever a function is added or called differently; kernels.VERSION has to agree. */
EXPORT int cf_version(void)
{
    return 12;
}

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_native", NULL, -1, NULL,
                                        NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModule_Create(&definition);
}

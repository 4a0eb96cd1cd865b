// The only include of napi.h: Node-API 8, C++ exceptions on. Everything in native/addon that
// touches JavaScript values includes this file, so that no two translation units can see napi.h
// under different macros.
#pragma once

#define NAPI_VERSION 8
#define NAPI_CPP_EXCEPTIONS
// A worker that is being terminated cannot receive an exception; without this, throwing one there
// aborts the process.
#define NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS

#include <napi.h>

/* CUDA's runtime on a machine without a GPU: memory is the host's, copies copy, and kernels are
   launched into nothing. Of two devices each thread has one; where that is not the one that memory
   was last taken on, a copy fails (CUDA would copy, and start on the other device, too). Enough for ONNX Runtime's CUDA provider to open files, place operators and
   move data. What is not here answers 0 (stand_in_cuda.py). */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { PROPERTIES = 900 }; /* less than cudaDeviceProp of CUDA 13, more than what is set here */

static __thread int current;
static int taken;

int cudaGetDeviceCount(int *count) { *count = 2; return 0; }
int cudaGetDevice(int *device) { *device = current; return 0; }
int cudaSetDevice(int device) { current = device; return 0; }
int cudaRuntimeGetVersion(int *version) { *version = 13000; return 0; }
int cudaDriverGetVersion(int *version) { *version = 13000; return 0; }

int cudaGetDeviceProperties(char *found, int device) {
    memset(found, 0, PROPERTIES);
    strcpy(found, "Stand-in");
    *(size_t *)(found + 288) = (size_t)16 << 30; /* totalGlobalMem */
    *(size_t *)(found + 296) = 49152;            /* sharedMemPerBlock */
    *(int *)(found + 304) = 65536;               /* regsPerBlock */
    *(int *)(found + 308) = 32;                  /* warpSize */
    *(int *)(found + 320) = 1024;                /* maxThreadsPerBlock */
    *(int *)(found + 360) = 9;                   /* major */
    *(int *)(found + 384) = 132;                 /* multiProcessorCount */
    return device > 1;
}

int cudaDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 9 : attribute == 76 ? 0 : attribute == 10 ? 32 : 1024;
    return device > 1;
}

int cudaMalloc(void **place, size_t size) {
    taken = current;
    *place = aligned_alloc(256, (size + 255) & ~(size_t)255);
    return *place ? 0 : 2;
}
int cudaMallocFromPoolAsync(void **place, size_t size) { return cudaMalloc(place, size); }
int cudaMallocHost(void **place, size_t size) { return cudaMalloc(place, size); }
int cudaHostAlloc(void **place, size_t size) { return cudaMalloc(place, size); }
int cudaFree(void *place) { free(place); return 0; }
int cudaFreeAsync(void *place) { free(place); return 0; }
int cudaFreeHost(void *place) { free(place); return 0; }

int cudaMemcpy(void *to, const void *from, size_t size) {
    memcpy(to, from, size);
    return current != taken;
}
int cudaMemcpyAsync(void *to, const void *from, size_t size) { memcpy(to, from, size); return 0; }
int cudaMemset(void *to, int value, size_t size) { memset(to, value, size); return 0; }
int cudaMemsetAsync(void *to, int value, size_t size) { memset(to, value, size); return 0; }
int cudaMemGetInfo(size_t *left, size_t *all) {
    *left = (size_t)15 << 30;
    *all = (size_t)16 << 30;
    return 0;
}

static int made(void **handle) { *handle = malloc(64); return 0; }
int cudaStreamCreate(void **stream) { return made(stream); }
int cudaStreamCreateWithFlags(void **stream) { return made(stream); }
int cudaEventCreate(void **event) { return made(event); }
int cudaEventCreateWithFlags(void **event) { return made(event); }
int cudaStreamEndCapture(void *stream, void **graph) { (void)stream; return made(graph); }
int cudaGraphInstantiate(void **graph) { return made(graph); }
int cudaStreamIsCapturing(void *stream, int *state) { (void)stream; *state = 0; return 0; }

const char *cudaGetErrorName(int error) { (void)error; return "stand-in"; }
const char *cudaGetErrorString(int error) { (void)error; return "stand-in"; }
void *__cudaRegisterFatBinary(void) { static int handle; return &handle; }

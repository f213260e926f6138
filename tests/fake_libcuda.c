/* A driver library that answers as the environment variables tell it. No GPU is needed.

FAKE_CUDA_INIT          what cuInit answers: an error code, "segv", "abort" or "hang"; 0
FAKE_CUDA_DEVICES       name,capability,gigabytes of each device, separated by semicolons;
                        one "NVIDIA Fake,9.0,80"
FAKE_CUDA_DRIVER        as cuDriverGetVersion answers: 13000
CUDA_VISIBLE_DEVICES    as the real one: where it is set and empty, there is no device
*/
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID_VALUE = 1, NO_DEVICE = 100, INVALID_DEVICE = 101 };

static const char *told(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value ? value : otherwise;
}

static const char *devices(void) { return told("FAKE_CUDA_DEVICES", "NVIDIA Fake,9.0,80"); }

int cuInit(unsigned flags) {
    const char *answer = told("FAKE_CUDA_INIT", "0");
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (!strcmp(answer, "segv")) raise(SIGSEGV);
    if (!strcmp(answer, "abort")) abort();
    if (!strcmp(answer, "hang")) for (;;) pause();
    if (visible && !*visible) return NO_DEVICE;
    return flags ? INVALID_VALUE : atoi(answer);
}

int cuDriverGetVersion(int *version) {
    *version = atoi(told("FAKE_CUDA_DRIVER", "13000"));
    return SUCCESS;
}

int cuDeviceGetCount(int *count) {
    const char *list = devices();
    *count = *list != 0;
    for (; *list; list++) *count += *list == ';';
    return SUCCESS;
}

int cuDeviceGet(int *device, int ordinal) {
    int count;
    cuDeviceGetCount(&count);
    if (ordinal < 0 || ordinal >= count) return INVALID_DEVICE;
    *device = ordinal;
    return SUCCESS;
}

static void facts(int device, char name[64], int *major, int *minor, double *gigabytes) {
    const char *list = devices();
    for (; device; device--) list = strchr(list, ';') + 1;
    sscanf(list, "%63[^,],%d.%d,%lf", name, major, minor, gigabytes);
}

int cuDeviceGetName(char *name, int length, int device) {
    char whole[64];
    int major, minor;
    double gigabytes;
    facts(device, whole, &major, &minor, &gigabytes);
    snprintf(name, length, "%s", whole);
    return SUCCESS;
}

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    char name[64];
    int major, minor;
    double gigabytes;
    facts(device, name, &major, &minor, &gigabytes);
    if (attribute != 75 && attribute != 76) return INVALID_VALUE;
    *value = attribute == 75 ? major : minor;
    return SUCCESS;
}

int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    char name[64];
    int major, minor;
    double gigabytes;
    facts(device, name, &major, &minor, &gigabytes);
    *bytes = (size_t)(gigabytes * (1UL << 30));
    return SUCCESS;
}

int cuDeviceGetPCIBusId(char *bus, int length, int device) {
    snprintf(bus, length, "0000:%02X:00.0", 0x3B + device);
    return SUCCESS;
}

int cuDeviceGetUuid_v2(unsigned char uuid[16], int device) {
    for (int i = 0; i < 16; i++) uuid[i] = (unsigned char)(16 * device + i);
    return SUCCESS;
}

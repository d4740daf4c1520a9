/* Kills the process with SIGKILL at its Nth file operation below a folder, before it happens or in the middle of a
   write. Loaded by LD_PRELOAD; it reads the environment at every operation, so that a process which was forked can be
   the one that is killed:

     FAULT_DIR   the folder; without it nothing is counted
     FAULT_RANK  only the process whose RANK is this counts; without it every one does
     FAULT_AT    N; without it nobody is killed
     FAULT_HALF  a write is done by half first
     FAULT_LOG   each operation is appended here as "N NAME PATH"
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { LONGEST = 2 * PATH_MAX };

static int operations = 0;

static void path_of(int fd, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  path[length > 0 ? length : 0] = 0;
}

static void whole_path(int folder, const char *name, char *path) {
  char start[PATH_MAX];
  if (name[0] == '/') {
    snprintf(path, LONGEST, "%s", name);
    return;
  }
  if (folder != AT_FDCWD)
    path_of(folder, start);
  else if (!getcwd(start, sizeof start))
    start[0] = 0;
  snprintf(path, LONGEST, "%s/%s", start, name);
}

static int counts(const char *path) {
  const char *folder = getenv("FAULT_DIR"), *wanted = getenv("FAULT_RANK"), *own = getenv("RANK");
  if (!folder || strncmp(path, folder, strlen(folder)) != 0) return 0;
  return !wanted || (own && strcmp(wanted, own) == 0);
}

static void append(const char *log, int number, const char *name, const char *path) {
  char line[LONGEST + 64];
  int length = snprintf(line, sizeof line, "%d %s %s\n", number, name, path);
  int fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0644);
  if (fd < 0) return;
  syscall(SYS_write, fd, line, length);
  syscall(SYS_close, fd);
}

/* Whether the process dies now; its caller may do half of a write before. */
static int is_last(const char *name, const char *path) {
  if (!counts(path)) return 0;
  int number = __atomic_add_fetch(&operations, 1, __ATOMIC_SEQ_CST);
  const char *log = getenv("FAULT_LOG"), *at = getenv("FAULT_AT");
  if (log) append(log, number, name, path);
  return at && atoi(at) == number;
}

static void die(void) {
  syscall(SYS_kill, getpid(), SIGKILL);
  for (;;) pause();
}

static void at_path(const char *name, int folder, const char *path) {
  char whole[LONGEST];
  whole_path(folder, path, whole);
  if (is_last(name, whole)) die();
}

static void at_file(const char *name, int fd) {
  char path[PATH_MAX];
  path_of(fd, path);
  if (is_last(name, path)) die();
}

#define REAL(type, name, ...)          \
  static type (*real)(__VA_ARGS__);    \
  if (!real) real = dlsym(RTLD_NEXT, #name);
#define WRITES(flags) ((flags) & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC))
#define MODE(last)                     \
  va_list rest;                        \
  va_start(rest, last);                \
  int mode = va_arg(rest, int);        \
  va_end(rest);

#define OPEN(name)                                        \
  int name(const char *path, int flags, ...) {            \
    REAL(int, name, const char *, int, ...)               \
    MODE(flags)                                           \
    if (WRITES(flags)) at_path("open", AT_FDCWD, path);   \
    return real(path, flags, mode);                       \
  }
#define OPENAT(name)                                      \
  int name(int folder, const char *path, int flags, ...) { \
    REAL(int, name, int, const char *, int, ...)          \
    MODE(flags)                                           \
    if (WRITES(flags)) at_path("open", folder, path);     \
    return real(folder, path, flags, mode);               \
  }
#define FOPEN(name)                                       \
  FILE *name(const char *path, const char *mode) {        \
    REAL(FILE *, name, const char *, const char *)        \
    if (strpbrk(mode, "wa+")) at_path("open", AT_FDCWD, path); \
    return real(path, mode);                              \
  }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
FOPEN(fopen)
FOPEN(fopen64)

ssize_t write(int fd, const void *bytes, size_t length) {
  REAL(ssize_t, write, int, const void *, size_t)
  if (fd > 2 && getenv("FAULT_DIR")) {
    char path[PATH_MAX];
    path_of(fd, path);
    if (is_last("write", path)) {
      if (getenv("FAULT_HALF")) real(fd, bytes, length / 2);
      die();
    }
  }
  return real(fd, bytes, length);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
  REAL(ssize_t, writev, int, const struct iovec *, int)
  if (fd > 2 && getenv("FAULT_DIR")) at_file("write", fd);
  return real(fd, parts, count);
}

int fsync(int fd) {
  REAL(int, fsync, int)
  if (getenv("FAULT_DIR")) at_file("fsync", fd);
  return real(fd);
}

int ftruncate(int fd, off_t length) {
  REAL(int, ftruncate, int, off_t)
  if (getenv("FAULT_DIR")) at_file("truncate", fd);
  return real(fd, length);
}

int ftruncate64(int fd, off64_t length) {
  REAL(int, ftruncate64, int, off64_t)
  if (getenv("FAULT_DIR")) at_file("truncate", fd);
  return real(fd, length);
}

int rename(const char *from, const char *to) {
  REAL(int, rename, const char *, const char *)
  at_path("rename", AT_FDCWD, to);
  return real(from, to);
}

int renameat(int source, const char *from, int folder, const char *to) {
  REAL(int, renameat, int, const char *, int, const char *)
  at_path("rename", folder, to);
  return real(source, from, folder, to);
}

int unlink(const char *path) {
  REAL(int, unlink, const char *)
  at_path("unlink", AT_FDCWD, path);
  return real(path);
}

int unlinkat(int folder, const char *path, int flags) {
  REAL(int, unlinkat, int, const char *, int)
  at_path("unlink", folder, path);
  return real(folder, path, flags);
}

int mkdir(const char *path, mode_t mode) {
  REAL(int, mkdir, const char *, mode_t)
  at_path("mkdir", AT_FDCWD, path);
  return real(path, mode);
}

int rmdir(const char *path) {
  REAL(int, rmdir, const char *)
  at_path("rmdir", AT_FDCWD, path);
  return real(path);
}

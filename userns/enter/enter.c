#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// What enter_namespaces did: nothing, all, or which step failed with which
// errno.
const char *kelp_enter_step;
int kelp_enter_errno;

static void fail(const char *step)
{
	kelp_enter_step = step;
	kelp_enter_errno = errno;
}

static void enter(int user, int net)
{
	if (setns(user, CLONE_NEWUSER) != 0)
		return fail("enter the user namespace");
	if (setns(net, CLONE_NEWNET) != 0)
		return fail("enter the network namespace");
	close(user);
	close(net);
	kelp_enter_step = "";
}

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = write(fd, text, strlen(text));
	close(fd);
	return n < 0 ? -1 : 0;
}

// appear calls the user and group of the process by other numbers, in a user
// namespace of its own.
static void appear(int uid, int gid)
{
	char uid_map[64], gid_map[64];

	snprintf(uid_map, sizeof(uid_map), "%d %d 1", uid, geteuid());
	snprintf(gid_map, sizeof(gid_map), "%d %d 1", gid, getegid());
	if (unshare(CLONE_NEWUSER) != 0)
		return fail("make a user namespace");
	if (write_file("/proc/self/setgroups", "deny") != 0 ||
	    write_file("/proc/self/uid_map", uid_map) != 0 ||
	    write_file("/proc/self/gid_map", gid_map) != 0)
		return fail("map the user");
	kelp_enter_step = "";
}

// A user namespace can be entered and made by a process of one thread only, so
// this has to run before Go's runtime starts more.
__attribute__((constructor)) static void enter_namespaces(void)
{
	const char *spec = getenv("KELP_ENTER");
	int a, b;

	if (spec == NULL)
		return;
	if (sscanf(spec, "enter %d %d", &a, &b) == 2)
		return enter(a, b);
	if (sscanf(spec, "appear %d %d", &a, &b) == 2)
		return appear(a, b);
	errno = EINVAL;
	fail("read KELP_ENTER");
}

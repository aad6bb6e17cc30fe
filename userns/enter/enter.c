#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

// What enter_namespaces did: nothing, all, or which step failed with which
// errno.
const char *kelp_enter_step;
int kelp_enter_errno;

// A user namespace can be entered by a process of one thread only, so this has
// to run before Go's runtime starts more.
__attribute__((constructor)) static void enter_namespaces(void)
{
	const char *spec = getenv("KELP_ENTER");
	int user, net;

	if (spec == NULL)
		return;
	if (sscanf(spec, "%d:%d", &user, &net) != 2) {
		kelp_enter_step = "read KELP_ENTER";
		kelp_enter_errno = EINVAL;
		return;
	}
	if (setns(user, CLONE_NEWUSER) != 0) {
		kelp_enter_step = "enter the user namespace";
		kelp_enter_errno = errno;
		return;
	}
	if (setns(net, CLONE_NEWNET) != 0) {
		kelp_enter_step = "enter the network namespace";
		kelp_enter_errno = errno;
		return;
	}
	close(user);
	close(net);
	kelp_enter_step = "";
}

// Package enter executes this program again inside the user namespace and a
// network namespace of another process of the same user, and limits what the
// programs can do that it then executes.
//
// It must not know whose namespaces they are, or what is done there.
package enter

/*
extern const char *kelp_enter_step;
extern int kelp_enter_errno;
*/
import "C"

import (
	"fmt"
	"os"
	"syscall"
)

// variable tells the C part what to do.
const variable = "KELP_ENTER"

// Exec executes this program again with the given environment, in the
// namespaces at two paths. It returns only when it fails. Entered says in the
// new program whether that worked.
func Exec(userNS, netNS string, env []string) error {
	user, err := open(userNS)
	if err != nil {
		return fmt.Errorf("cannot open the user namespace: %w", err)
	}
	defer syscall.Close(user)
	net, err := open(netNS)
	if err != nil {
		return fmt.Errorf("cannot open the network namespace: %w", err)
	}
	defer syscall.Close(net)
	return again(fmt.Sprintf("enter %d %d", user, net), env)
}

// ExecAs executes this program again with the given environment, in a user
// namespace in which its user and group are called uid and gid. It has no
// powers there over anything that it is in. It returns only when it fails;
// Entered says in the new program whether that worked.
func ExecAs(uid, gid int, env []string) error {
	return again(fmt.Sprintf("appear %d %d", uid, gid), env)
}

func again(what string, env []string) error {
	env = append(env, variable+"="+what)
	return os.NewSyscallError("execve", syscall.Exec("/proc/self/exe", os.Args, env))
}

// open returns a descriptor that is still open after execve.
func open(path string) (int, error) {
	fd, err := syscall.Open(path, syscall.O_RDONLY, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// Entered says whether the process was started by Exec or ExecAs and, with an
// error, whether it is what they should make of it.
func Entered() (bool, error) {
	if os.Getenv(variable) == "" {
		return false, nil
	}
	os.Unsetenv(variable)
	if step := C.GoString(C.kelp_enter_step); step != "" {
		return true, fmt.Errorf("cannot %s: %w", step, syscall.Errno(C.kelp_enter_errno))
	}
	return true, nil
}

// Package enter executes this program again inside the user namespace and a
// network namespace of another process of the same user.
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

// variable tells the C part which descriptors to enter.
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
	env = append(env, fmt.Sprintf("%s=%d:%d", variable, user, net))
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

// Entered says whether the process was started by Exec and, with an error,
// whether it is where Exec sent it.
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

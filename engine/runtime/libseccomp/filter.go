// Package seccomp stands in for libseccomp's Go binding, in kelp's keeper and
// for libcontainer alone, which wants no more of it than there is here.
//
// The difference is that rules are written down, and compiled by libseccomp
// only when the program is asked for. libcontainer compiles a container's
// filter anew in each of its processes, which takes longer than all the rest
// of starting one; with Compiled the keeper gives it the program that the
// same rules made before.
package seccomp

import (
	"errors"
	"fmt"
	"os"
)

// Compiled, unless nil, is the program of every filter in this process. It is
// set once, by whoever knows which rules are to come.
var Compiled []byte

// Exported, unless nil, gets each program that is compiled in this process.
var Exported func(program []byte)

// ScmpAction is what happens to a system call that a rule matches.
type ScmpAction uint32

// Actions. Their high half is for the code that SetReturnCode puts there.
const (
	ActInvalid ScmpAction = iota
	ActKillThread
	ActKillProcess
	ActTrap
	ActNotify
	ActErrno
	ActTrace
	ActLog
	ActAllow
)

// SetReturnCode returns the action with the error number that ActErrno
// answers with, or the message that ActTrace gives the tracer.
func (a ScmpAction) SetReturnCode(code int16) ScmpAction {
	if kind := a.kind(); kind == ActErrno || kind == ActTrace {
		return kind | ScmpAction(uint16(code))<<16
	}
	return a
}

func (a ScmpAction) kind() ScmpAction { return a & 0xffff }
func (a ScmpAction) code() uint32     { return uint32(a >> 16) }

// ScmpCompareOp compares a system call's argument.
type ScmpCompareOp uint

// Comparisons.
const (
	CompareInvalid ScmpCompareOp = iota
	CompareNotEqual
	CompareLess
	CompareLessOrEqual
	CompareEqual
	CompareGreaterEqual
	CompareGreater
	CompareMaskedEqual
)

// ScmpCondition is a comparison of one argument.
type ScmpCondition struct {
	Argument uint
	Op       ScmpCompareOp
	Operand1 uint64 // the mask of CompareMaskedEqual
	Operand2 uint64
}

// MakeCondition returns a condition on the arg-th argument, from 0 on.
func MakeCondition(arg uint, op ScmpCompareOp, values ...uint64) (ScmpCondition, error) {
	switch {
	case op <= CompareInvalid || op > CompareMaskedEqual:
		return ScmpCondition{}, fmt.Errorf("invalid comparison %d of a system call's argument", op)
	case arg > 5:
		return ScmpCondition{}, fmt.Errorf("a system call has no argument %d", arg)
	case len(values) == 0 || len(values) > 2:
		return ScmpCondition{}, fmt.Errorf("cannot compare a system call's argument with %d values", len(values))
	}
	c := ScmpCondition{Argument: arg, Op: op, Operand1: values[0]}
	if len(values) == 2 {
		c.Operand2 = values[1]
	}
	return c, nil
}

// ScmpSyscall is a system call's number.
type ScmpSyscall int32

// VersionError says that the library or the kernel is too old.
type VersionError struct {
	what string
	api  uint
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("%s needs level %d of libseccomp's API, and there is level %d", e.what, e.api, apiLevel())
}

// ScmpFilter is a filter in the making.
type ScmpFilter struct {
	valid bool
	act   ScmpAction
	archs []ScmpArch
	rules []rule
	attrs attributes
}

type rule struct {
	call   ScmpSyscall
	action ScmpAction
	args   []ScmpCondition
}

type attributes struct {
	noNewPrivs, log, ssb, waitKill bool
	optimize                       uint
}

// NewFilter returns a filter for the native architecture.
func NewFilter(defaultAction ScmpAction) (*ScmpFilter, error) {
	if k := defaultAction.kind(); k == ActInvalid || k > ActAllow {
		return nil, errors.New("invalid default action of a seccomp filter")
	}
	return &ScmpFilter{valid: true, act: defaultAction, attrs: attributes{noNewPrivs: true}}, nil
}

// AddArch makes the filter one for another architecture, too.
func (f *ScmpFilter) AddArch(arch ScmpArch) error {
	f.archs = append(f.archs, arch)
	return nil
}

// AddRule acts on every call of a system call.
func (f *ScmpFilter) AddRule(call ScmpSyscall, action ScmpAction) error {
	return f.AddRuleConditional(call, action, nil)
}

// AddRuleConditional acts on calls whose arguments meet all conditions.
func (f *ScmpFilter) AddRuleConditional(call ScmpSyscall, action ScmpAction, conditions []ScmpCondition) error {
	f.rules = append(f.rules, rule{call, action, append([]ScmpCondition(nil), conditions...)})
	return nil
}

// SetOptimize sets how the program finds a system call; 2 is by a binary tree.
func (f *ScmpFilter) SetOptimize(level uint) error {
	if apiLevel() < 4 {
		return &VersionError{"optimization", 4}
	}
	f.attrs.optimize = level
	return nil
}

// SetNoNewPrivsBit sets whether loading the filter sets no_new_privs.
func (f *ScmpFilter) SetNoNewPrivsBit(on bool) error {
	f.attrs.noNewPrivs = on
	return nil
}

// GetNoNewPrivsBit returns what SetNoNewPrivsBit set.
func (f *ScmpFilter) GetNoNewPrivsBit() (bool, error) { return f.attrs.noNewPrivs, nil }

// SetLogBit sets whether the kernel logs what the filter does.
func (f *ScmpFilter) SetLogBit(on bool) error { return f.set(&f.attrs.log, on, "logging", 3) }

// GetLogBit returns what SetLogBit set.
func (f *ScmpFilter) GetLogBit() (bool, error) { return f.attrs.log, nil }

// SetSSB sets whether the mitigation of speculative store bypass is left off.
func (f *ScmpFilter) SetSSB(on bool) error { return f.set(&f.attrs.ssb, on, "SSB", 4) }

// GetSSB returns what SetSSB set.
func (f *ScmpFilter) GetSSB() (bool, error) { return f.attrs.ssb, nil }

// SetWaitKill sets whether only fatal signals interrupt a notified call.
func (f *ScmpFilter) SetWaitKill(on bool) error { return f.set(&f.attrs.waitKill, on, "WAITKILL", 7) }

// GetWaitKill returns what SetWaitKill set.
func (f *ScmpFilter) GetWaitKill() (bool, error) { return f.attrs.waitKill, nil }

func (f *ScmpFilter) set(attr *bool, on bool, what string, api uint) error {
	if apiLevel() < api {
		return &VersionError{what, api}
	}
	*attr = on
	return nil
}

// ExportBPF writes the filter's program to file.
func (f *ScmpFilter) ExportBPF(file *os.File) error {
	if !f.valid {
		return errors.New("the seccomp filter was not made by NewFilter")
	}
	program := Compiled
	if program == nil {
		var err error
		if program, err = compile(f); err != nil {
			return err
		}
		if Exported != nil {
			Exported(program)
		}
	}
	_, err := file.Write(program)
	return err
}

package userns

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/userns/account"
)

// Remedies that the administrator of a machine has for those who may not
// enter a user namespace. `kelp doctor` gives them as well.
const (
	// InstallUidmap is for a machine without newuidmap and newgidmap.
	InstallUidmap = "ask the administrator to install newuidmap and newgidmap (Debian, Ubuntu: apt-get install uidmap; Fedora: dnf install shadow-utils; Arch: pacman -S shadow; Alpine: apk add shadow-uidmap)"
	// RunDoctor is for causes of which there are several.
	RunDoctor = "run 'kelp doctor' to see what forbids it and what to do"
)

// AddSubIDs is the remedy for a user who has no subordinate ids.
func AddSubIDs() string {
	return "ask the administrator to run: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 " + account.Current().Name + " (with a range that no other user has)"
}

// explain puts a remedy to the failures of RootlessKit's parent that a user
// can do something about.
func explain(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return fault.Unavailable("cannot map user ids: newuidmap or newgidmap is not installed").WithHint("%s", InstallUidmap)
	case strings.Contains(text, "No subuid ranges"), strings.Contains(text, "No subgid ranges"):
		return fault.Unavailable("cannot map user ids: you have no range of subordinate ids in both /etc/subuid and /etc/subgid").
			WithHint("%s", AddSubIDs())
	case strings.Contains(text, "failed to setup UID/GID map"):
		return fault.Unavailable("cannot map user ids: %w", err).WithHint("%s", RunDoctor)
	case strings.Contains(text, "failed to start the child"):
		return fault.Unavailable("cannot make a user namespace: %w", err).WithHint("%s", RunDoctor)
	}
	return fmt.Errorf("cannot enter the user namespace: %w", err)
}

// errParentGone ends a child whose parent has failed and says why itself.
var errParentGone = errors.New("the parent gave up")

// IsParentGone says whether Child failed only because Parent did.
func IsParentGone(err error) bool { return errors.Is(err, errParentGone) }

// explainChild does the same for the child's failures.
func explainChild(err error) error {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, unix.EPIPE):
		return errParentGone
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		// AppArmor lets the namespace be made and then forbids what it is for.
		return fault.Unavailable("cannot mount in the user namespace: %w", err).WithHint("%s", RunDoctor)
	}
	return fmt.Errorf("cannot enter the user namespace: %w", err)
}

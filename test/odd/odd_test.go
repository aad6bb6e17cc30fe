// Package odd runs kelp as ordinary users of unusual machines: with no login
// session, no devices, no cgroups, other file systems, odd accounts.
//
// The machines are mount namespaces that root makes, so these tests need root
// themselves; kelp never has it. Nothing of the real machine changes.
package odd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/test/harness"
)

// patience is how long all of a test's session may take.
const patience = 6 * time.Minute

// files is what every user of the tests can read.
var files harness.Files

func TestMain(m *testing.M) {
	if os.Getuid() != 0 {
		fmt.Println("skipped: only root can make machines to test on")
		return
	}
	err := takeIDs()
	if err == nil {
		files, err = harness.Prepare()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot run the tests:", err)
		os.Exit(1)
	}
	code := m.Run()
	if err := files.Remove(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// machine is an unusual one.
type machine struct {
	name string
	// account is the user's name, "" for ann.
	account string
	// directory says that the account is not in /etc/passwd but in a
	// directory service, as LDAP.
	directory bool
	// make is a shell script that root runs in a mount namespace of the
	// test's own, in an empty directory; $HOME is there already.
	make string
	// env is added to HOME, PATH and what everyday.sh needs.
	env []string
	// args are those of `kelp env`.
	args []string
	// doctor is what `kelp doctor` has to say; a regular expression.
	doctor string
	// refused is what `kelp env` says that cannot be; a regular expression.
	refused string
}

var machines = []machine{
	{name: "no login session"},
	{name: "somebody else's XDG_RUNTIME_DIR", make: "mkdir -m 700 root; chown root root", env: []string{"XDG_RUNTIME_DIR=$DIR/root"}},
	{name: "a runtime directory that is gone", env: []string{"XDG_RUNTIME_DIR=$DIR/gone"}},
	{name: "umask 077", make: "umask 077"},
	{name: "umask 000", make: "umask 000"},
	{
		name: "home on another file system", make: "mount -t tmpfs -o mode=700 none $HOME; chown $ID $HOME",
		doctor: `warn  data root .* tmpfs: images and containers are gone when the machine restarts`,
	},
	{
		name: "home on a file system without extended attributes", make: "mount -t ramfs none $HOME; chown $ID $HOME",
		doctor: `warn  overlay +not native`,
	},
	{
		name: "home mounted noexec", make: "mount -t tmpfs -o noexec,mode=700 none $HOME; chown $ID $HOME",
		refused: `mounted noexec: containers could run nothing: choose a directory .*--data-root`,
	},
	{
		name: "home read-only", make: "mount --bind $HOME $HOME; mount -o remount,bind,ro $HOME",
		refused: `read-only: choose a directory .*--data-root`,
	},
	{
		name: "home read-only and a data root elsewhere", make: "mkdir data; chown $ID data; mount --bind $HOME $HOME; mount -o remount,bind,ro $HOME",
		args: []string{"--data-root", "$DIR/data"}, env: []string{"DATA_ROOT=$DIR/data", "DOCKER_CONFIG=$DIR/scratch/.docker"},
	},
	{name: "no HOME", env: []string{"HOME=", "USER="}},
	{
		name: "no HOME, and an account without one", directory: true, make: "rm extrausers/passwd", env: []string{"HOME=", "USER="},
		refused: `HOME is not set and your account has no home directory: set HOME, or start kelp with --data-root DIR`,
	},
	{name: "no /dev/net/tun and no /dev/fuse", make: bareDev, doctor: `pass  networks +bridges and their ways out can be made`},
	{name: "no cgroups", make: "umount -R /sys/fs/cgroup", doctor: `warn  cgroups +no limits on containers`},
	{name: "other users' processes hidden", make: "mount -t proc -o hidepid=2 proc /proc"},
	{name: "few open files", make: "ulimit -n 256"},
	{name: "no temporary directory for programs", make: "mkdir -m 1777 tmp; mount -t tmpfs -o noexec,nosuid,nodev,mode=1777 none tmp; mount --bind tmp /tmp"},
	{name: "a name with dots", account: "ann.o.nym"},
	{name: "a name like a mail address", account: "ann@example.org"},
	{name: "an account in a directory service", account: "ann.ldap", directory: true},
	{name: "an account in a directory service, without USER's help", account: "ann.ldap", directory: true, env: []string{"USER=root"}},
	{
		name: "no subordinate ids", make: ": >$DIR/subids; mount --bind $DIR/subids /etc/subuid; mount --bind $DIR/subids /etc/subgid",
		refused: `you have no range of subordinate ids in both /etc/subuid and /etc/subgid: ask the administrator to run: usermod --add-subuids .* ann`,
	},
	{
		name: "no newuidmap", make: "mount --bind /dev/null /usr/bin/newuidmap",
		refused: `newuidmap.*ask the administrator`,
	},
}

// bareDev replaces /dev with the devices that every container has.
const bareDev = `
mkdir dev; mount -t tmpfs -o mode=755 none dev
for d in null zero full random urandom tty; do touch dev/$d; mount --bind /dev/$d dev/$d; done
mkdir dev/pts dev/shm; mount --bind /dev/pts dev/pts; mount --bind /dev/shm dev/shm
ln -s pts/ptmx dev/ptmx; ln -s /proc/self/fd dev/fd
mount --move dev /dev`

// TestMachines runs a day of a user on each; several at a time, which makes
// them many users of one machine.
func TestMachines(t *testing.T) {
	for _, m := range machines {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			m.test(t)
		})
	}
}

func (m machine) test(t *testing.T) {
	u := newUser(t, m.account)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-euc", m.script(t, u))
	cmd.Dir = u.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "DIR=" + u.dir, "HOME=" + u.home(), fmt.Sprintf("ID=%d:%d", u.id, u.id)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	cmd.WaitDelay = time.Second
	b, err := cmd.CombinedOutput()
	out := string(b)
	switch {
	case m.refused != "":
		if err == nil || !regexp.MustCompile(m.refused).MatchString(out) {
			t.Errorf("kelp env says (%v):\n%s\nwant an error like %s", err, out, m.refused)
		}
	case err != nil:
		t.Errorf("%v:\n%s", err, out)
	case !regexp.MustCompile("(?m)" + m.doctor).MatchString(out):
		t.Errorf("kelp doctor does not say %q:\n%s", m.doctor, out)
	}
	if err := harness.Until(ctx, patience, "every process ends", func() error {
		if left := u.processes(); len(left) > 0 {
			return fmt.Errorf("left: %v", left)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// script makes the machine and then runs everyday.sh as the user.
func (m machine) script(t *testing.T, u user) string {
	everyday, err := filepath.Abs("testdata/everyday.sh")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(everyday)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(u.dir, "everyday.sh"), program, 0o644); err != nil {
		t.Fatal(err)
	}
	env := []string{
		"PATH=" + files.Bin + ":/usr/local/bin:/usr/bin:/bin", "HOME=" + u.home(), "USER=" + u.name, "TZ=UTC",
		"BUSYBOX=" + files.Busybox, "SCRATCH=" + filepath.Join(u.dir, "scratch"),
	}
	for _, e := range m.env {
		env = append(env, strings.ReplaceAll(e, "$DIR", u.dir))
	}
	args := []string{"exec", "setpriv", fmt.Sprintf("--reuid=%d --regid=%d --clear-groups env -i", u.id, u.id)}
	for _, e := range env {
		args = append(args, "'"+e+"'")
	}
	args = append(args, "sh", "../everyday.sh")
	for _, a := range m.args {
		args = append(args, strings.ReplaceAll(a, "$DIR", u.dir))
	}
	return strings.Join([]string{"mount --make-rprivate /", u.accounts(m.directory), m.make, "cd scratch", strings.Join(args, " ")}, "\n")
}

// user is one that exists in the test's mount namespace only.
type user struct {
	name string
	id   int
	dir  string
}

// users counts those that were made.
var users atomic.Int32

// The users of one run of the tests are others than those of another run at the
// same time: each takes a block of ids.
const (
	firstID    = 61000
	firstSubID = 3_000_000_000
	block      = 100 // users
)

// held is the name of this run's block, which nobody else can have meanwhile.
var held net.Listener

// takeIDs finds a block that no other run has.
func takeIDs() error {
	for n := range 10 {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fmt.Sprintf("@kelp-test-odd-%d", n), Net: "unix"})
		if err == nil {
			held = l
			users.Store(int32(n * block))
			return nil
		}
	}
	return errors.New("too many runs of these tests at once")
}

func newUser(t *testing.T, name string) user {
	n := int(users.Add(1))
	if name == "" {
		name = "ann"
	}
	u := user{name: name, id: firstID + n, dir: filepath.Join(files.Base, fmt.Sprint(n))}
	for _, dir := range []string{u.dir, u.home(), filepath.Join(u.dir, "scratch")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if dir == u.dir {
			continue
		}
		if err := os.Chown(dir, u.id, u.id); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, pid := range u.processes() { // of a test that failed
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		os.RemoveAll("/tmp/kelp-" + fmt.Sprint(u.id))
	})
	return u
}

func (u user) home() string { return filepath.Join(u.dir, "home") }

// accounts is a shell script that makes the user known.
func (u user) accounts(directory bool) string {
	entry := fmt.Sprintf("%s:x:%d:%d::%s:/bin/sh", u.name, u.id, u.id, u.home())
	group := fmt.Sprintf("%s:x:%d:", u.name, u.id)
	sub := fmt.Sprintf("%s:%d:65536", u.name, firstSubID+65536*(u.id-firstID))
	add := func(file, line string) string {
		return fmt.Sprintf("cat /etc/%[1]s >$DIR/%[1]s; echo '%[2]s' >>$DIR/%[1]s; mount --bind $DIR/%[1]s /etc/%[1]s", file, line)
	}
	lines := []string{add("subuid", sub), add("subgid", sub)}
	if directory {
		lines = append(lines,
			`sed 's/^\(passwd\|group\):.*/& extrausers/' /etc/nsswitch.conf >$DIR/nsswitch.conf; mount --bind $DIR/nsswitch.conf /etc/nsswitch.conf`,
			"mkdir $DIR/extrausers; mkdir -p /var/lib/extrausers; mount --bind $DIR/extrausers /var/lib/extrausers",
			fmt.Sprintf("echo '%s' >$DIR/extrausers/passwd; echo '%s' >$DIR/extrausers/group", entry, group))
	} else {
		lines = append(lines, add("passwd", entry), add("group", group))
	}
	return strings.Join(lines, "\n")
}

// processes returns those of the user and of the user's subordinate ids.
func (u user) processes() (pids []int) {
	first := firstSubID + 65536*(u.id-firstID)
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		var st unix.Stat_t
		if unix.Stat(dir, &st) != nil {
			continue
		}
		if id := int(st.Uid); id != u.id && (id < first || id >= first+65536) {
			continue
		}
		if _, err := os.Readlink(filepath.Join(dir, "exe")); err != nil {
			continue // a zombie, waiting for init
		}
		pid, _ := strconv.Atoi(filepath.Base(dir))
		pids = append(pids, pid)
	}
	return pids
}

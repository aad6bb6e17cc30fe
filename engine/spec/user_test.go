package spec

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

const (
	testPasswd = "root:x:0:0:root:/root:/bin/sh\nmail:x:8:12::/var/mail:/bin/sh\n1000:x:55:55::/odd:/bin/sh\nbad\n"
	testGroup  = "root:x:0:\nmail:x:12:\nvideo:x:44:mail,root\naudio:x:29:mail\n"
)

func TestFindUser(t *testing.T) {
	for _, tt := range []struct {
		name, spec string
		add        []string
		want       identity
		err        string
	}{
		{name: "nobody named is root", want: identity{home: "/root", groups: []uint32{0, 44}}},
		{name: "by name, with its groups", spec: "mail", want: identity{uid: 8, gid: 12, home: "/var/mail", groups: []uint32{12, 44, 29}}},
		{name: "by number of a known user", spec: "8", want: identity{uid: 8, gid: 12, home: "/var/mail", groups: []uint32{12, 44, 29}}},
		{name: "by number of an unknown user", spec: "4242", want: identity{uid: 4242, home: "/", groups: []uint32{0}}},
		{name: "a number is no name", spec: "1000", want: identity{uid: 1000, home: "/", groups: []uint32{0}}},
		{name: "with a group by name", spec: "mail:audio", want: identity{uid: 8, gid: 29, home: "/var/mail", groups: []uint32{29}}},
		{name: "with a group by number", spec: "5:6", want: identity{uid: 5, gid: 6, home: "/", groups: []uint32{6}}},
		{name: "with added groups", spec: "5:6", add: []string{"video", "77"}, want: identity{uid: 5, gid: 6, home: "/", groups: []uint32{6, 44, 77}}},
		{name: "unknown name", spec: "nosuch", err: "unable to find user nosuch: no matching entries in passwd file"},
		{name: "unknown group", spec: "mail:nosuch", err: "unable to find group nosuch: no matching entries in group file"},
		{name: "unknown added group", add: []string{"nosuch"}, err: "unable to find group nosuch"},
		{name: "too large", spec: "4294967296", err: "uids and gids must be in range"},
		{name: "negative", spec: "-1", err: "uids and gids must be in range"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := findUser([]byte(testPasswd), []byte(testGroup), tt.spec, tt.add)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || !errdefs.IsInvalidArgument(err) {
					t.Errorf("error %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}

func TestUsersOfAHostileImage(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "passwd")
	write(t, filepath.Dir(secret), "passwd", "root:x:0:0::/host:/bin/sh\n")
	for _, tt := range []struct {
		name string
		make func(t *testing.T, root string)
		home string // of root; "" is an error
	}{
		{"no files at all", func(*testing.T, string) {}, "/"},
		{"a link out of the root", func(t *testing.T, root string) { link(t, secret, root+"/etc/passwd") }, "/"},
		{"a relative link out of the root", func(t *testing.T, root string) {
			link(t, strings.Repeat("../", 20)+secret, root+"/etc/passwd")
		}, "/"},
		{"etc itself is a link", func(t *testing.T, root string) {
			write(t, root, "real/passwd", "root:x:0:0::/inside:/bin/sh\n")
			if err := os.Remove(root + "/etc"); err != nil {
				t.Fatal(err)
			}
			link(t, "/real", root+"/etc")
		}, "/inside"},
		{"a loop", func(t *testing.T, root string) { link(t, "passwd", root+"/etc/passwd") }, "/"},
		{"a pipe, which would block", func(t *testing.T, root string) {
			if err := syscall.Mkfifo(root+"/etc/passwd", 0o644); err != nil {
				t.Fatal(err)
			}
		}, ""},
		{"a directory", func(t *testing.T, root string) { write(t, root, "etc/passwd/f", "") }, ""},
		{"endless", func(t *testing.T, root string) {
			write(t, root, "etc/passwd", "")
			if err := os.Truncate(root+"/etc/passwd", 1<<40); err != nil {
				t.Skip(err)
			}
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			if err := os.Mkdir(root+"/etc", 0o755); err != nil {
				t.Fatal(err)
			}
			tt.make(t, root)
			done := make(chan struct{})
			go func() {
				defer close(done)
				id, err := lookUser(root, "", nil)
				if (err != nil) != (tt.home == "") || id.home != tt.home {
					t.Errorf("home %q, %v; want %q", id.home, err, tt.home)
				}
			}()
			select {
			case <-done:
			case <-time.After(time.Minute):
				t.Fatal("it hangs")
			}
		})
	}
}

func link(t *testing.T, to, at string) {
	t.Helper()
	if err := os.Symlink(to, at); err != nil {
		t.Fatal(err)
	}
}

func TestIDsThatAreNotMapped(t *testing.T) {
	err := checkMapped(identity{uid: 70000}, Host{MaxID: 65536})
	if err == nil || !strings.Contains(err.Error(), "id 70000 is not in the user namespace") {
		t.Errorf("error: %v", err)
	}
}

func FuzzFindUser(f *testing.F) {
	f.Add(testPasswd, testGroup, "mail:audio", "video")
	f.Add("", "", "0:0", "")
	f.Add("a:::::", ":::", "::", ":")
	f.Fuzz(func(t *testing.T, passwd, group, spec, add string) {
		id, err := findUser([]byte(passwd), []byte(group), spec, []string{add})
		if err == nil && (id.home == "" || len(id.groups) == 0) {
			t.Errorf("%q: %+v", spec, id)
		}
	})
}

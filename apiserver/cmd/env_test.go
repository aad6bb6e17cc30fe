package cmd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// hostile are paths that a shell would take apart if they were not quoted.
var hostile = []string{
	"/run/user/1000/kelp/docker.sock",
	"/tmp/with space/docker.sock",
	"/tmp/it's/docker.sock",
	`/tmp/"quoted"/docker.sock`,
	"/tmp/$HOME/`id`/$(id)/docker.sock",
	`/tmp/back\slash\/docker.sock`,
	"/tmp/*/?/[a]/{b,c}/docker.sock",
	"/tmp/!history!!/docker.sock",
	"/tmp/;reboot;#/&&/|/docker.sock",
	"/tmp/ünï/~root/docker.sock",
	"-n",
}

func TestShellsReadBackHostilePaths(t *testing.T) {
	tests := []struct{ shell, script string }{
		{"sh", `eval $(cat "$0"); printf %s "$DOCKER_HOST"`},
		{"bash", `eval $(cat "$0"); printf %s "$DOCKER_HOST"`},
		{"zsh", `eval $(cat "$0"); printf %s "$DOCKER_HOST"`},
		{"fish", `cat $argv[1] | source; printf %s "$DOCKER_HOST"`},
		{"csh", "eval \"`cat $argv[1]`\"; printf %s $DOCKER_HOST:q"},
		{"tcsh", "eval \"`cat $argv[1]`\"; printf %s $DOCKER_HOST:q"},
	}
	for _, tt := range tests {
		t.Run(tt.shell, func(t *testing.T) {
			path, err := exec.LookPath(tt.shell)
			if err != nil {
				t.Skip(err)
			}
			write, err := shell(tt.shell)
			if err != nil {
				t.Fatal(err)
			}
			// Each runs in a directory with a file that a stray * would find.
			dir := t.TempDir()
			code := filepath.Join(dir, "code")
			for _, p := range hostile {
				if err := os.WriteFile(code, []byte(write("DOCKER_HOST", "unix://"+p)+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				cmd := exec.Command(path, "-c", tt.script, code)
				cmd.Dir = dir
				cmd.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")}
				if strings.HasSuffix(tt.shell, "csh") { // it takes arguments from a script only
					cmd = exec.Command(path, "-f", "/dev/stdin", code)
					cmd.Dir = dir
					cmd.Stdin = strings.NewReader(tt.script + "\n")
				}
				out, err := cmd.CombinedOutput()
				if err != nil || string(out) != "unix://"+p {
					t.Errorf("%q came out as %q (%v)", p, out, err)
				}
			}
		})
	}
}

func TestShellFromEnvironment(t *testing.T) {
	tests := []struct{ name, env, given, want string }{
		{"login shell", "/usr/bin/fish", "", "set -gx A 'b';"},
		{"flag beats it", "/usr/bin/fish", "csh", "setenv A 'b';"},
		{"unusual login shell", "/opt/nu", "", "export A='b'"},
		{"none", "", "", "export A='b'"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("SHELL", tt.env)
			write, err := shell(tt.given)
			if err != nil {
				t.Fatal(err)
			}
			if got := write("A", "b"); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	if _, err := shell("powershell"); err == nil || !strings.Contains(err.Error(), "use bash") {
		t.Errorf("an unknown shell that was asked for: %v", err)
	}
}

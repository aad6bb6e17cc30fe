package harness

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kelp-engine/kelp/test/images"
)

// commandLimit is how long one command of a script may take, so that one that
// hangs fails its own script, with logs, and not the whole run.
const commandLimit = "300"

// scriptKey is the key of a script's state among testscript's values.
type scriptKey struct{}

// script is the state of one running script.
type script struct {
	kelp    *Kelp
	answers *Answers
	closers []func() error // of what the script holds
	ctx     context.Context
}

// Scripts runs every script in dir, each with a kelp of its own. Besides
// testscript's own commands they may use:
//
//	kelpd start|stop|wait-ready|kill-engine|kill-keeper|kill-daemon|check-clean
//	docker ARGS…, kelp ARGS…           the docker client and the command line
//	image [flags] NAME FILE            makes a test image (see images.Recipe)
//	registry VAR [flags]               runs a registry, puts HOST:PORT in $VAR
//	hostile-archives                   loads each, which must be refused or harmless
//	push-image [flags] NAME REPO TAG   fills the script's registry store
//	wait-for REGEX COMMAND ARGS…       repeats until the output matches
//	capture VAR COMMAND ARGS…          puts what the command prints in $VAR
//	freeport VAR [COUNT]               reserves free ports of the host: $VAR, $VAR_1 …
//	dial ADDRESS [TEXT]                connects, sends TEXT, prints the answer
//	expect FILE COMMAND ARGS…          talks to the command over a terminal
//	api METHOD PATH [BODY-FILE]        a plain request to the Engine API
//
// $KELP_TEST_SCRIPTS names another directory than dir, for scripts that are
// still being written.
func Scripts(t *testing.T, dir string) {
	if d := os.Getenv("KELP_TEST_SCRIPTS"); d != "" {
		dir = d
	}
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup:               setup,
		Condition:           condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"kelpd":            kelpd,
			"docker":           program("docker"),
			"kelp":             program("kelp"),
			"image":            makeImage,
			"registry":         startRegistry,
			"push-image":       pushImage,
			"hostile-archives": hostileArchives,
			"wait-for":         waitFor,
			"capture":          capture,
			"freeport":         freePort,
			"dial":             dial,
			"expect":           expect,
			"api":              api,
		},
	})
}

func setup(env *testscript.Env) error {
	k, err := New()
	if err != nil {
		return err
	}
	busybox, err := busyboxArchive()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &script{kelp: k, ctx: ctx, answers: k.Judge()}
	env.Values[scriptKey{}] = s
	env.Vars = append(env.Vars, k.Env...)
	env.Vars = append(env.Vars, "BUSYBOX="+busybox, "DATA_ROOT="+k.DataRoot, "RUN="+k.RuntimeDir,
		"DOCKER_HOST=unix://"+k.Tapped, "CLIENTS="+clientsDir(), "SHARED="+sharedDir())
	t := env.T()
	env.Defer(func() {
		defer cancel()
		err := s.finish(failed(t))
		if err != nil || failed(t) {
			t.Log("kelp's log:\n" + k.Logs())
		}
		if cerr := k.Close(); err == nil {
			err = cerr
		}
		if err != nil && !failed(t) {
			t.Fatal(err)
		}
	})
	return nil
}

func failed(t testscript.T) bool {
	f, ok := t.(interface{ Failed() bool })
	return ok && f.Failed()
}

// finish checks, after a script that passed, that its kelp leaves nothing.
func (s *script) finish(failed bool) error {
	for _, end := range s.closers {
		_ = end()
	}
	if faults := s.answers.Faults(); len(faults) > 0 && !failed {
		return fmt.Errorf("answers that the API's definition does not allow:\n%s", strings.Join(faults, "\n"))
	}
	if failed || s.kelp.userNS == "" || len(processesIn(s.kelp.userNS)) == 0 {
		return nil
	}
	if err := s.kelp.CheckClean(s.ctx); err != nil {
		return err
	}
	return s.kelp.Stop(s.ctx)
}

// busyboxArchive makes the archive of busybox:latest that kelpd start loads,
// once for all scripts.
func busyboxArchive() (string, error) {
	path := filepath.Join(os.Getenv(baseEnv), "busybox.tar")
	if isFile(path) {
		return path, nil
	}
	tmp, err := os.CreateTemp(os.Getenv(baseEnv), "busybox")
	if err != nil {
		return "", err
	}
	tmp.Close()
	if err := writeBusybox(tmp.Name()); err != nil {
		return "", err
	}
	return path, os.Rename(tmp.Name(), path)
}

func writeBusybox(path string) error {
	return images.Recipe{Name: "busybox", Ref: "busybox:latest"}.Write(path)
}

// condition answers [cgroup2], [limits], [shared] (there is $SHARED, which
// only a supplementary group of the user may read) and [client:NAME], for
// a part of hack/setup-clients, which is $CLIENTS/NAME.
func condition(cond string) (bool, error) {
	if name, ok := strings.CutPrefix(cond, "client:"); ok {
		return hasClient(name), nil
	}
	switch cond {
	case "cgroup2": // kelp can make cgroups for containers
		group, err := subCgroup("probe")
		if err == nil {
			removeCgroup(group)
		}
		return err == nil, nil
	case "shared":
		_, err := os.Stat(sharedDir())
		return err == nil, nil
	case "limits": // and limit them
		b, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
		return err == nil && strings.Contains(string(b), "memory"), nil
	}
	return false, nil
}

func of(ts *testscript.TestScript) *script { return ts.Value(scriptKey{}).(*script) }

// verdict ends a command that may be negated.
func verdict(ts *testscript.TestScript, neg bool, err error) {
	switch {
	case err != nil && !neg:
		ts.Fatalf("%v", err)
	case err == nil && neg:
		ts.Fatalf("it succeeded, unexpectedly")
	}
}

// program returns the command that runs name in the script's environment.
func program(name string) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		ts.Check(of(ts).answers.listen()) // a kelp may have been started without kelpd
		verdict(ts, neg, ts.Exec("timeout", append([]string{"--kill-after=5", commandLimit, name}, args...)...))
	}
}

func kelpd(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: kelpd start|stop|wait-ready|kill-engine|kill-keeper|kill-daemon|check-clean")
	}
	s := of(ts)
	k := s.kelp
	ctx, cancel := context.WithTimeout(s.ctx, 5*time.Minute)
	defer cancel()
	var err error
	switch args[0] {
	case "start":
		err = k.Start(ctx, args[1:]...)
		if err == nil && !neg {
			err = loadBusybox(ctx, k, ts.Getenv("BUSYBOX"))
		}
	case "start-bare": // without the busybox image
		err = k.Start(ctx, args[1:]...)
	case "stop":
		err = k.Stop(ctx)
	case "wait-ready":
		err = k.WaitReady(ctx)
	case "kill-engine":
		err = k.KillEngine(ctx)
	case "kill-keeper":
		err = k.KillKeeper(ctx)
	case "kill-daemon":
		err = k.KillDaemon()
	case "check-clean":
		err = k.CheckClean(ctx)
	default:
		ts.Fatalf("kelpd: unknown command %q", args[0])
	}
	verdict(ts, neg, err)
}

// loadBusybox loads busybox:latest unless it is there from an earlier start.
func loadBusybox(ctx context.Context, k *Kelp, archive string) error {
	if _, err := k.Docker(ctx, "image", "inspect", "busybox"); err == nil {
		return nil
	}
	_, err := k.Docker(ctx, "load", "-q", "-i", archive)
	return err
}

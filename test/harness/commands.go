package harness

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kelp-engine/kelp/test/images"
	"github.com/kelp-engine/kelp/test/registry"
)

// recipe reads the flags of image and push-image.
func recipe(ts *testscript.TestScript, args []string, operands int) (images.Recipe, []string) {
	var r images.Recipe
	fs := flag.NewFlagSet("image", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	r.Flags(fs)
	config := fs.String("config", "", "JSON file merged over the image's configuration")
	if err := fs.Parse(args); err != nil {
		ts.Fatalf("%v", err)
	}
	if fs.NArg() != operands {
		ts.Fatalf("%d operands given, %d wanted", fs.NArg(), operands)
	}
	if *config != "" {
		r.Config = []byte(ts.ReadFile(*config))
	}
	r.Name = fs.Arg(0)
	return r, fs.Args()[1:]
}

func makeImage(ts *testscript.TestScript, neg bool, args []string) {
	r, rest := recipe(ts, args, 2)
	verdict(ts, neg, r.Write(ts.MkAbs(rest[0])))
}

// hostileArchives loads every hostile archive. One that must be refused and is
// not, or that takes the engine with it, fails the script.
func hostileArchives(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: hostile-archives")
	}
	s := of(ts)
	before, err := s.kelp.Status(s.ctx)
	ts.Check(err)
	for _, h := range images.HostileArchives() {
		b, err := h.Make()
		ts.Check(err)
		path := ts.MkAbs(h.Name + ".tar")
		ts.Check(os.WriteFile(path, b, 0o600))
		out, err := s.kelp.Docker(s.ctx, "load", "-q", "-i", path)
		ts.Logf("%s: %s (%v)", h.Name, out, err)
		switch _, leak := os.Stat(images.HostileTarget); {
		case leak == nil:
			ts.Fatalf("%s: it wrote %s", h.Name, images.HostileTarget)
		case err == nil && !h.MayLoad:
			ts.Fatalf("%s: it was loaded: %s", h.Name, out)
		case err == nil:
			_, err = s.kelp.Docker(s.ctx, "rmi", "-f", "hostile")
			ts.Check(err)
		}
	}
	after, err := s.kelp.Status(s.ctx)
	ts.Check(err)
	if after.EnginePID != before.EnginePID {
		ts.Fatalf("an archive killed the engine")
	}
}

// registryDir is where all registries of a script keep their blobs.
func registryDir(ts *testscript.TestScript) string {
	dir := filepath.Join(of(ts).kelp.Dir, "registry")
	ts.Check(os.MkdirAll(dir, 0o700))
	return dir
}

func startRegistry(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: registry VAR [-tls] [-auth basic|token] [-slow DURATION]")
	}
	s := of(ts)
	o := registry.Options{Dir: registryDir(ts)}
	fs := flag.NewFlagSet("registry", flag.ContinueOnError)
	fs.BoolVar(&o.TLS, "tls", false, "serve https")
	fs.StringVar((*string)(&o.Auth), "auth", "", "basic or token")
	fs.DurationVar(&o.Slow, "slow", 0, "hold each blob back")
	ts.Check(fs.Parse(args[1:]))
	r, err := registry.Start(s.ctx, o)
	ts.Check(err)
	s.closers = append(s.closers, r.Close)
	ts.Setenv(args[0], r.Host)
	ts.Setenv(args[0]+"_CA", r.CAFile)
}

func pushImage(ts *testscript.TestScript, neg bool, args []string) {
	r, rest := recipe(ts, args, 3)
	s := of(ts)
	open, err := registry.Start(s.ctx, registry.Options{Dir: registryDir(ts)})
	ts.Check(err)
	defer open.Close()
	d, err := open.Push(s.ctx, r, rest[0], rest[1])
	if err == nil {
		fmt.Fprintln(ts.Stdout(), d.Digest)
	}
	verdict(ts, neg, err)
}

func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: wait-for REGEX COMMAND ARGS…")
	}
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	s := of(ts)
	var out []byte
	err = s.kelp.until(s.ctx, fmt.Sprintf("%s prints %s", strings.Join(args[1:], " "), args[0]), func() error {
		var err error
		cmd := s.kelp.Command(s.ctx, args[1], args[2:]...)
		cmd.Dir = ts.MkAbs(".")
		if out, err = cmd.CombinedOutput(); !re.Match(out) {
			return fmt.Errorf("it printed %q (%v)", out, err)
		}
		return nil
	})
	_, _ = ts.Stdout().Write(out)
	ts.Check(err)
}

func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: capture VAR COMMAND ARGS…")
	}
	s := of(ts)
	var stderr bytes.Buffer
	cmd := s.kelp.Command(s.ctx, args[1], args[2:]...)
	cmd.Dir, cmd.Stderr = ts.MkAbs("."), &stderr
	out, err := cmd.Output()
	if err != nil {
		ts.Fatalf("%s: %v: %s", strings.Join(args[1:], " "), err, stderr.Bytes())
	}
	ts.Setenv(args[0], strings.TrimSpace(string(out)))
}

func freePort(ts *testscript.TestScript, neg bool, args []string) {
	n, err := 1, error(nil)
	if len(args) == 2 {
		n, err = strconv.Atoi(args[1])
	}
	if neg || len(args) == 0 || len(args) > 2 || err != nil || n < 1 {
		ts.Fatalf("usage: freeport VAR [COUNT]")
	}
	s := of(ts)
	first, err := s.reservePorts(n)
	ts.Check(err)
	ts.Setenv(args[0], strconv.Itoa(first))
	for i := 1; i < n; i++ {
		ts.Setenv(fmt.Sprintf("%s_%d", args[0], i), strconv.Itoa(first+i))
	}
}

func dial(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 || len(args) > 2 {
		ts.Fatalf("usage: dial ADDRESS [TEXT]")
	}
	conn, err := net.DialTimeout("tcp", args[0], patience)
	if err != nil {
		verdict(ts, neg, err)
		return
	}
	defer conn.Close()
	ts.Check(conn.SetDeadline(time.Now().Add(patience)))
	if len(args) == 2 {
		_, err = fmt.Fprintln(conn, args[1])
		ts.Check(err)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		ts.Check(tcp.CloseWrite())
	}
	_, err = io.Copy(ts.Stdout(), conn)
	verdict(ts, neg, err)
}

// api makes a request and prints the status, then the body.
func api(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: api METHOD PATH [BODY-FILE]")
	}
	s := of(ts)
	var body io.Reader
	if len(args) == 3 {
		body = strings.NewReader(ts.ReadFile(args[2]))
	}
	req, err := http.NewRequestWithContext(s.ctx, args[0], "http://kelp"+args[1], body)
	ts.Check(err)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	client := s.kelp.HTTP()
	defer client.CloseIdleConnections()
	client.Timeout = patience
	resp, err := client.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	fmt.Fprintln(ts.Stdout(), resp.StatusCode)
	_, err = io.Copy(ts.Stdout(), resp.Body)
	ts.Check(err)
}

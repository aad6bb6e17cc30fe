// Command mkimage writes a test image to a file, for trying things by hand:
//
//	go run ./test/images/mkimage -ref busybox:latest busybox /tmp/busybox.tar
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/kelp-engine/kelp/test/images"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "mkimage:", err)
		os.Exit(1)
	}
}

func run() error {
	var r images.Recipe
	var config string
	fs := flag.CommandLine
	r.Flags(fs)
	fs.StringVar(&config, "config", "", "a JSON `file` merged over the image's configuration")
	fs.Usage = func() {
		fmt.Fprintln(fs.Output(), "usage: mkimage [flags] busybox|scratch|multiarch|hostile:NAME FILE")
		fs.PrintDefaults()
	}
	flag.Parse()
	if fs.NArg() != 2 {
		fs.Usage()
		os.Exit(2)
	}
	if config != "" {
		var err error
		if r.Config, err = os.ReadFile(config); err != nil {
			return err
		}
	}
	r.Name = fs.Arg(0)
	return r.Write(fs.Arg(1))
}

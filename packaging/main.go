// Command packaging makes what people install: packages for Debian, Fedora, Alpine and their kin, archives, and what goes
// with them.
//
//	go run ./packaging                                    all of it, into bin/dist
//	go run ./packaging --arch arm64 --format deb,tar      less of it
//	go run ./packaging --new-key release.key              a key that signs releases, and its public half beside it
//	go run ./packaging --format release --sign release.key   a release, for muster upgrade
//	go run ./packaging --cosign FILE --sign other.key     one more signature on a release that is made
//
// It owns the layout of an installed host and the scripts of packages. The same sources, version, date and Go make the same
// bytes, in any folder, on any machine. It never fetches anything but through go, never needs root, and signs
// nothing but releases.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/muster-fleet/muster/node/auth"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "packaging:", err)
		}
		stop()
		os.Exit(1)
	}
}

// order is what is to be made.
type order struct {
	top     string // the source's folder
	out     string
	arches  []arch
	formats []string
	version version
	date    time.Time
	signers []auth.Signer // of a release
	stdout  io.Writer
}

// archive is the format that is no package: a tar file.
const archive = "tar"

func run(ctx context.Context, args []string, stdout io.Writer) error {
	o, keys, err := readOrder(ctx, args, stdout)
	switch {
	case err != nil:
		return err
	case keys.make != "":
		return makeKey(keys.make, stdout)
	case keys.cosign != "":
		return cosign(keys.cosign, o.signers, stdout)
	}
	return o.make(ctx)
}

func readOrder(ctx context.Context, args []string, stdout io.Writer) (order, keyOrder, error) {
	o, keys := order{stdout: stdout}, keyOrder{}
	flags := flag.NewFlagSet("packaging", flag.ContinueOnError)
	flags.StringVar(&o.out, "out", "", "folder to write to (default bin/dist in the source)")
	wanted := flags.String("arch", archNames(arches()), "architectures")
	formats := flags.String("format", "deb,rpm,apk,tar", "what to make; release, too, which wants --sign")
	sign := flags.String("sign", "", "key files, separated by commas: who signs the release")
	flags.StringVar(&keys.make, "new-key", "", "make a key for releases, and nothing else, in this file")
	flags.StringVar(&keys.cosign, "cosign", "", "add signatures to this release file, and make nothing else")
	release := flags.String("version", "", "version, as 1.2.3 or 1.2.3-rc.1 (default: of git describe)")
	date := flags.String("date", "", "seconds since 1970 that stand in everything (default: SOURCE_DATE_EPOCH, else the commit's)")
	if err := flags.Parse(args); err != nil {
		return o, keys, err
	}
	if flags.NArg() > 0 {
		return o, keys, fmt.Errorf("no arguments are taken, but got %q", flags.Arg(0))
	}
	var err error
	if o.signers, err = readSigners(*sign); err != nil || keys != (keyOrder{}) {
		return o, keys, err
	}
	return o, keys, o.read(ctx, *wanted, *formats, *release, *date)
}

// read takes what the flags say.
func (o *order) read(ctx context.Context, wanted, formats, release, date string) (err error) {
	if o.top, err = source(ctx); err != nil {
		return err
	}
	if o.out == "" {
		o.out = filepath.Join(o.top, "bin", "dist")
	}
	if o.out, err = filepath.Abs(o.out); err != nil {
		return err
	}
	if o.arches, err = pickArches(wanted); err != nil {
		return err
	}
	o.formats = strings.Split(formats, ",")
	for _, f := range o.formats {
		if f == releaseFormat && len(o.signers) == 0 {
			return fmt.Errorf("--format release wants --sign KEYFILE: no fleet takes one that nobody signed (--new-key FILE makes a key)")
		}
		if f != archive && f != releaseFormat && !slices.Contains(packageFormats(), f) {
			return fmt.Errorf("--format %q is none of %s, %s, %s", f, strings.Join(packageFormats(), ", "), archive, releaseFormat)
		}
	}
	if o.version, err = readVersion(ctx, o.top, release); err != nil {
		return err
	}
	o.date, err = readDate(ctx, o.top, date)
	return err
}

// source returns the folder of the module that this program is of.
func source(ctx context.Context) (string, error) {
	file, err := output(ctx, "", "go", "env", "GOMOD")
	if err != nil {
		return "", err
	}
	top := filepath.Dir(file)
	if _, err := os.Stat(filepath.Join(top, "packaging", toolFile)); err != nil {
		return "", fmt.Errorf("run it in the source of muster: go run ./packaging")
	}
	return top, nil
}

// readDate returns the date of what is made: as told, by the flag or the variable that all such tools know, or the commit's.
func readDate(ctx context.Context, top, told string) (time.Time, error) {
	if told == "" {
		told = os.Getenv("SOURCE_DATE_EPOCH")
	}
	if told == "" {
		var err error
		if told, err = output(ctx, top, "git", "log", "-1", "--format=%ct"); err != nil {
			return time.Time{}, fmt.Errorf("no date: give --date, or build in a git checkout: %w", err)
		}
	}
	seconds, err := strconv.ParseInt(told, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q are no seconds since 1970", told)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// output runs a program and returns what it says, without the last line's end.
func output(ctx context.Context, dir, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	var complaint strings.Builder
	cmd.Stderr = &complaint
	said, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(complaint.String()))
	}
	return strings.TrimSpace(string(said)), nil
}

// make makes everything in a new folder beside the one that was asked for, which is replaced when all is there.
func (o order) make(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(o.out), 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp(filepath.Dir(o.out), ".packaging-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	made := filepath.Join(work, "made")
	if err := os.Mkdir(made, 0o755); err != nil {
		return err
	}
	var shared files
	if !slices.Equal(o.formats, []string{releaseFormat}) {
		if shared, err = o.makeShared(ctx, filepath.Join(work, "shared")); err != nil {
			return err
		}
	}
	for _, a := range o.arches {
		if err := o.makeArch(ctx, a, shared, filepath.Join(work, a.name), made); err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
	}
	if slices.Contains(o.formats, releaseFormat) {
		if err := o.writeRelease(work, made); err != nil {
			return fmt.Errorf("release: %w", err)
		}
	}
	if err := writeSums(made); err != nil {
		return err
	}
	if err := replace(made, o.out); err != nil {
		return err
	}
	return o.tell()
}

// makeArch makes all that is asked for of one architecture.
func (o order) makeArch(ctx context.Context, a arch, shared files, work, made string) error {
	bin := filepath.Join(work, "muster")
	if err := o.build(ctx, a, bin); err != nil {
		return err
	}
	if shared == nil { // a release has the binary alone
		return nil
	}
	own, err := o.makeOwn(ctx, a, bin, work)
	if err != nil {
		return err
	}
	bill, err := os.ReadFile(own.sbom)
	if err != nil {
		return err
	}
	stem := fmt.Sprintf("muster_%s_linux_%s", o.version, a.name)
	if err := os.WriteFile(filepath.Join(made, stem+".spdx.json"), bill, 0o644); err != nil {
		return err
	}
	for _, format := range o.formats {
		if format == releaseFormat {
			continue // made of all architectures
		}
		if format == archive {
			err = o.writeArchive(filepath.Join(made, stem+".tar.gz"), strings.ReplaceAll(stem, "_", "-"), slices.Concat(own.files, shared))
		} else {
			err = o.pack(ctx, a, format, slices.Concat(own.files, shared), work, made)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", format, err)
		}
	}
	return nil
}

// replace puts a folder in the place of another.
func replace(made, out string) error {
	if err := os.Chmod(made, 0o755); err != nil {
		return err
	}
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	return os.Rename(made, out)
}

func (o order) tell() error {
	sums, err := os.ReadFile(filepath.Join(o.out, sumsName))
	if err != nil {
		return err
	}
	fmt.Fprintf(o.stdout, "muster %s, %s, in %s\n%s", o.version, o.date.Format(time.DateOnly), o.out, sums)
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// What is copied: a large file, and many small ones.
const (
	largeFile   = 500_000_000
	largeFar    = 100_000_000 // where packets are lost, ssh or muster may take minutes
	smallFiles  = 10_000
	smallFar    = 300 // that ssh is given over a long way: it waits for each
	smallBytes  = 1024
	smallFolder = 100 // files of a folder
)

// sessionCopies copies from here to the node.
func sessionCopies(ctx context.Context, c *couple) (out []figure, err error) {
	large := int64(largeFile)
	if c.way.path.Loss > 0 {
		large = largeFar
	}
	file := filepath.Join(c.dir, "large")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), fill(file, large)); err != nil {
		return nil, err
	}
	defer os.Remove(file)
	ours, err := c.copied(ctx, func(to string) *exec.Cmd { return c.muster(ctx, "cp", file, "n2:"+to, "--user", "root") })
	if err != nil {
		return nil, err
	}
	theirs, err := c.copied(ctx, func(to string) *exec.Cmd { return c.ssh(ctx, "scp", "-q", file, "there:"+to) })
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("copy of %d MB", large/1e6)
	mine := c.figure("copy_large_muster_bytes_per_second", name+", muster", octetsASecond, float64(large)/ours)
	ratio := c.figure("copy_large_ratio", name+", as quick as scp", times, theirs/ours)
	if !c.far {
		mine, ratio = mine.atLeast(125e6), ratio.atLeast(0.5)
	}
	out = append(out, mine.noted("muster has it on the node's disk (fsync) before it says so; scp does not wait"),
		c.figure("copy_large_ssh_bytes_per_second", name+", scp", octetsASecond, float64(large)/theirs), ratio)
	small, err := c.smallCopies(ctx)
	return append(out, small...), err
}

// fill writes what no file system stores as a hole.
func fill(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	b := make([]byte, 1<<20)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	for left := size; left > 0 && err == nil; left -= int64(len(b)) {
		_, err = f.Write(b[:min(left, int64(len(b)))])
	}
	if syncErr := f.Sync(); err == nil { // else the next who syncs pays for it
		err = syncErr
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// copied times a copy to a new place, which it clears away.
func (c *couple) copied(ctx context.Context, command func(to string) *exec.Cmd) (float64, error) {
	to := filepath.Join(c.dir, "copy")
	defer os.RemoveAll(to)
	took, err := c.timed(ctx, command(to))
	return took.Seconds(), err
}

func (c *couple) smallCopies(ctx context.Context) ([]figure, error) {
	many := filepath.Join(c.dir, "many")
	few := filepath.Join(c.dir, "few")
	defer os.RemoveAll(many)
	defer os.RemoveAll(few)
	theirFolder, theirCount := many, smallFiles
	if c.far {
		theirFolder, theirCount = few, smallFar
		if err := smallTree(few, smallFar); err != nil {
			return nil, err
		}
	}
	if err := smallTree(many, smallFiles); err != nil {
		return nil, err
	}
	ours, err := c.copied(ctx, func(to string) *exec.Cmd { return c.muster(ctx, "cp", "-r", many, "n2:"+to, "--user", "root") })
	if err != nil {
		return nil, err
	}
	theirs, err := c.copied(ctx, func(to string) *exec.Cmd { return c.ssh(ctx, "scp", "-q", "-r", theirFolder, "there:"+to) })
	if err != nil {
		return nil, err
	}
	note := ""
	if c.far {
		note = fmt.Sprintf("muster copied %d files, scp %d", smallFiles, smallFar)
	}
	each, eachOfTheirs := ours/smallFiles, theirs/float64(theirCount)
	ratio := c.figure("copy_small_ratio", "copy of small files, as quick as scp", times, eachOfTheirs/each)
	if !c.far {
		ratio = ratio.atLeast(0.5)
	}
	return []figure{
		c.figure("copy_small_muster_per_second", "copy of small files, muster", aSecond, 1/each).noted(note),
		c.figure("copy_small_ssh_per_second", "copy of small files, scp", aSecond, 1/eachOfTheirs), ratio,
	}, nil
}

func smallTree(root string, files int) error {
	b := make([]byte, smallBytes)
	for i := range files {
		folder := filepath.Join(root, fmt.Sprint(i/smallFolder))
		if i%smallFolder == 0 {
			if err := os.MkdirAll(folder, 0o700); err != nil {
				return err
			}
		}
		b[0], b[1] = byte(i), byte(i>>8)
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprint(i)), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

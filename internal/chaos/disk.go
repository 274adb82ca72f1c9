//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// disk is a small file system for one node.
type disk struct{ path string }

// diskSize is what the node's streams have room in, for the whole history.
const diskSize = "size=96m"

// ErrNotHere says that this machine cannot run a kind of history.
var ErrNotHere = errors.New("not possible on this machine")

// mountDisk mounts the disk when the kind asks for one.
func (h *history) mountDisk(context.Context) error {
	if !h.kind.Disk {
		return nil
	}
	path := filepath.Join(h.dir, "disk")
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", path, "tmpfs", 0, diskSize); err != nil {
		return fmt.Errorf("mounting a small disk: %w: %w", ErrNotHere, err)
	}
	h.disk = &disk{path: path}
	h.closers = append(h.closers, func() { h.failed(syscall.Unmount(path, syscall.MNT_DETACH)) })
	return nil
}

// diskFull fills the disk of the first node for a while, and starts the node again
// afterwards: a server that found its disk full does not write again by itself.
func diskFull(ctx context.Context, o *operator) {
	d := o.between(2*time.Second, 6*time.Second)
	o.h.note("the disk of n1 is full for %s", d.Round(time.Millisecond))
	ballast := filepath.Join(o.h.disk.path, "ballast")
	o.h.failed(fill(ballast))
	pause(ctx, d)
	o.h.failed(os.Remove(ballast))
	o.h.note("the disk of n1 has room again")
	o.restart(ctx, o.h.nodes[0], false, 0)
	o.whole(ctx)
}

// fill writes a file until there is no room for more.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	block := make([]byte, 1<<20)
	for len(block) > 0 {
		if _, err = f.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
	if errors.Is(err, syscall.ENOSPC) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

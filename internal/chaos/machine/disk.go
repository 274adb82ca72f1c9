//go:build linux

package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// ErrNotHere means that this machine cannot do what a history needs.
var ErrNotHere = errors.New("not possible on this machine")

// Disk is a small separate file system.
type Disk struct{ Path string }

// diskSize is enough for one node's streams during a whole history.
const diskSize = "size=96m"

// MountDisk creates a directory and mounts a small disk there.
func MountDisk(path string) (*Disk, error) {
	if err := os.Mkdir(path, 0o700); err != nil {
		return nil, err
	}
	if err := syscall.Mount("tmpfs", path, "tmpfs", 0, diskSize); err != nil {
		return nil, fmt.Errorf("mounting a small disk: %w: %w", ErrNotHere, err)
	}
	return &Disk{Path: path}, nil
}

// Unmount removes the disk and its contents.
func (d *Disk) Unmount() error { return syscall.Unmount(d.Path, syscall.MNT_DETACH) }

func (d *Disk) ballast() string { return filepath.Join(d.Path, "ballast") }

// Fill fills the disk with a file.
func (d *Disk) Fill() error {
	return fill(d.ballast())
}

// Drain frees the space taken by [Disk.Fill].
func (d *Disk) Drain() error { return os.Remove(d.ballast()) }

// fill writes a file until the disk is full.
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

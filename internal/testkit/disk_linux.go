package testkit

import (
	"errors"
	"os"
	"strconv"
	"syscall"
	"testing"
)

// SmallDisk returns a directory on a separate file system with size bytes, to be filled by a
// test. That needs root; without it the test is skipped, or fails in CI.
func SmallDisk(t testing.TB, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+strconv.Itoa(size)); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("testkit: mounting a small file system, which needs root: %v", err)
		}
		t.Skipf("testkit: mounting a small file system needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("testkit: unmounting the small file system: %v", err)
		}
	})
	return dir
}

// FillDisk writes a file until its file system is full.
func FillDisk(t testing.TB, name string) {
	t.Helper()
	f, err := os.Create(name) //nolint:gosec // the test names the file
	if err != nil {
		t.Fatalf("testkit: creating the file that fills the disk: %v", err)
	}
	for block := make([]byte, 64<<10); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("testkit: filling the disk: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatalf("testkit: filling the disk: %v", err)
	}
}

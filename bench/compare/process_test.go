package compare

import (
	"io"
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestParseStat_ANameMayContainAnything(t *testing.T) {
	t.Parallel()
	line := "42 (a) S 7 (b) S 7 42 42 0 -1 4194560 100 0 0 0 3 4 50 60 20 0 1 0 1000 0 0"
	got, err := parseStat([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	want := stat{parent: 7, own: 70 * time.Millisecond, children: 1100 * time.Millisecond}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, short := range []string{"", "42 (a) S 7", "42 (a) S x 42 42 0 -1 4194560 100 0 0 0 3 4 50 60 20"} {
		if _, err := parseStat([]byte(short)); err == nil {
			t.Errorf("%q is read", short)
		}
	}
}

func TestFigures_DescendantsCountWhereAsked(t *testing.T) {
	t.Parallel()
	// The program tells that its first child has ended, and then has another one wait with it.
	cmd := exec.Command("sh", "-c", "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; exec 3<&0; cat <&3 & echo; wait")
	in, inWriter, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer inWriter.Close()
	cmd.Stdin = in
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	alone, all := Process{PID: cmd.Process.Pid}, Process{PID: cmd.Process.Pid, Descendants: true}
	members, err := family(cmd.Process.Pid)
	if err != nil || len(members) != 2 {
		t.Fatalf("%d processes, %v", len(members), err)
	}
	ownCPU, err := cpuTime(alone)
	if err != nil {
		t.Fatal(err)
	}
	allCPU, err := cpuTime(all)
	if err != nil || allCPU <= ownCPU {
		t.Errorf("CPU time is %s alone and %s with descendants, %v", ownCPU, allCPU, err)
	}
	if bytes, err := resident(all); err != nil || bytes <= 0 {
		t.Errorf("%d bytes resident, %v", bytes, err)
	}
}

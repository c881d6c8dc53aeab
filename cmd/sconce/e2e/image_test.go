package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// bare is a folder that a gateway has for its root, as the image gives it: the static
// binary, what its configuration names, and nothing else, all of it somebody else's.
type bare struct{ root string }

// nobody is the user of the image (Dockerfile, USER).
const nobody = 65532

// seen is the path of dir as the gateway knows it.
func (b *bare) seen(dir string) string {
	if b == nil {
		return dir
	}
	return strings.TrimPrefix(dir, b.root)
}

// command has the gateway run in there, with nothing in its environment. To change the
// root is root's alone: for anybody else it is the folder that it starts in, which it
// cannot write, and no more.
func (b *bare) command(g *gateway, cmd *exec.Cmd) error {
	if b == nil {
		return nil
	}
	cmd.Env = []string{}
	if os.Geteuid() != 0 {
		cmd.Dir = b.root
		return nil
	}
	// As a volume comes into a container: readable for its user, and not writable.
	err := filepath.WalkDir(g.dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			if err = os.Chmod(path, 0o440); err == nil {
				err = os.Chown(path, 0, nobody)
			}
		}
		return err
	})
	cmd.Path = b.seen(g.binary)
	cmd.Args[slices.Index(cmd.Args, g.config)] = b.seen(g.config)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: b.root, Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return err
}

// TestImageIsEnough runs Sconce as the image does: the static binary in an otherwise
// empty root that it cannot write, as a user of no name, with an empty environment.
// A query goes through, and nothing is open for writing but its output.
func TestImageIsEnough(t *testing.T) {
	w := needs(t)
	root := t.TempDir()
	for dir := root; len(dir) > len(os.TempDir()); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	home := filepath.Join(root, "etc", "sconce")
	if err := os.MkdirAll(home, 0o755); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(root, "sconce")
	build := exec.Command("go", "build", "-trimpath", "-o", binary, "github.com/sconce-dev/sconce/cmd/sconce")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range []string{"ca.pem", "server.pem", "server.key", "signing.pem"} {
		content, err := os.ReadFile(filepath.Join(w.gate.dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(home, name), content, 0o400)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	r := &gateway{
		name: "image", dir: home, binary: binary, control: map[string]string{}, bare: &bare{root},
		config: filepath.Join(home, "sconce.yaml"), ca: filepath.Join(home, "ca.pem"),
	}
	err := r.serve(w.gate.front)
	if r.child != nil {
		t.Cleanup(func() { r.child.end(20 * time.Second) })
	}
	if err != nil {
		t.Fatal(err)
	}
	s := w.gate.open(t, "ada", w.sail.cluster).through(r)
	if problem := newest.run(t, w, job{URL: s.url("127.0.0.1"), Cases: []string{"select_one"}}, time.Minute)["select_one"].failed(); problem != "" {
		t.Error(problem)
	}
	written, err := openForWriting(r.child.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range written {
		if file != r.child.log {
			t.Errorf("it writes %s", file)
		}
	}
}

// openForWriting lists the files that a process may write.
func openForWriting(pid int) (files []string, err error) {
	fds := fmt.Sprintf("/proc/%d/fd", pid)
	list, err := os.ReadDir(fds)
	if err != nil {
		return nil, err
	}
	for _, entry := range list {
		target, err := os.Readlink(filepath.Join(fds, entry.Name()))
		if err != nil || !strings.HasPrefix(target, "/") || target == os.DevNull {
			continue // it is closed by now, or no file
		}
		info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, entry.Name()))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(info), "flags:")
		flags, err := strconv.ParseInt(strings.Fields(rest)[0], 8, 64)
		if err != nil {
			return nil, err
		}
		if flags&syscall.O_ACCMODE != syscall.O_RDONLY {
			files = append(files, target)
		}
	}
	return files, nil
}

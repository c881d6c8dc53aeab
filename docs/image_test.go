package docs

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// instruction is one line of the Dockerfile, continued lines joined.
type instruction struct{ name, rest string }

// dockerfile reads the stages of the image; what stands before the first FROM is
// none of them.
func dockerfile(text string) (stages [][]instruction) {
	var kept []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			kept = append(kept, strings.TrimRight(line, "\n"))
		}
	}
	joined := strings.ReplaceAll(strings.Join(kept, "\n"), "\\\n", " ")
	for line := range strings.SplitSeq(joined, "\n") {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name = strings.ToUpper(name); name == "FROM" {
			stages = append(stages, nil)
		}
		if n := len(stages); name != "" && n > 0 {
			stages[n-1] = append(stages[n-1], instruction{name, strings.TrimSpace(rest)})
		}
	}
	return stages
}

// imageFaults are what makes the image less than the Dockerfile's first line
// says: a static binary and nothing else, no shell, not root. there says whether
// a file of the build's context exists.
func imageFaults(stages [][]instruction, there func(string) bool) (faults []string) {
	fault := func(text string) { faults = append(faults, text) }
	if len(stages) < 2 {
		return []string{"it has one stage: the compiler would be in the image"}
	}
	build, final := stages[len(stages)-2], stages[len(stages)-1]
	if base := final[0].rest; base != "scratch" && !strings.HasPrefix(base, "gcr.io/distroless/static") {
		fault("the image is made from " + base + ", which may have a shell")
	}
	static := slices.ContainsFunc(build, func(i instruction) bool {
		return i.name == "RUN" && strings.Contains(i.rest, "go build") && strings.Contains(i.rest, "CGO_ENABLED=0")
	})
	if !static {
		fault("the binary is not built with CGO_ENABLED=0")
	}
	user := ""
	for _, i := range final {
		switch i.name {
		case "USER":
			user = i.rest
		case "RUN", "SHELL", "ADD":
			fault("the image has a " + i.name)
		case "ENTRYPOINT", "CMD":
			if !strings.HasPrefix(i.rest, "[") {
				fault(i.name + " is not a list, so it wants a shell")
			}
		case "COPY":
			if !strings.HasPrefix(i.rest, "--from=") {
				fault("the image has files that were not built: COPY " + i.rest)
			}
		}
	}
	// By number: an orchestrator cannot see that a name is not root.
	if !regexp.MustCompile(`^[1-9]\d*(:[1-9]\d*)?$`).MatchString(user) {
		fault("the user is " + user + ", not a number other than 0")
	}
	for _, i := range slices.Concat(stages[:len(stages)-1]...) {
		if sources := strings.Fields(i.rest); i.name == "COPY" && !strings.HasPrefix(i.rest, "--from=") {
			for _, name := range sources[:len(sources)-1] {
				if !there(name) {
					fault("COPY of " + name + ", which is not there")
				}
			}
		}
	}
	return faults
}

func TestImage(t *testing.T) {
	stages := dockerfile(readFile(t, "Dockerfile"))
	for _, fault := range imageFaults(stages, exists) {
		t.Errorf("Dockerfile: %s", fault)
	}
	// What the build needs is in its context: every folder with Go of the module
	// but what .dockerignore leaves out, and what begins with a dot, which the go
	// tool does not take for a part of it.
	ignored := strings.Fields(readFile(t, ".dockerignore"))
	var copied []string
	for _, i := range slices.Concat(stages...) {
		if i.name == "COPY" {
			copied = append(copied, strings.Fields(i.rest)...)
		}
	}
	for _, f := range goFiles(t) {
		top, _, _ := strings.Cut(f.dir, "/")
		if !f.test && !strings.HasPrefix(top, ".") && !slices.Contains(ignored, top) && !slices.Contains(copied, top) {
			t.Errorf("Dockerfile: %s is of the module and is not copied", f.name)
		}
	}
	for _, name := range copied {
		if slices.Contains(ignored, path.Clean(name)) {
			t.Errorf("Dockerfile: %s is copied and .dockerignore leaves it out", name)
		}
	}
}

// Each thing that the guard is for, done wrong.
func TestImageFaults(t *testing.T) {
	good := readFile(t, "Dockerfile")
	for name, change := range map[string][2]string{
		"one stage":       {"FROM scratch", ""},
		"a base image":    {"FROM scratch", "FROM debian:stable-slim"},
		"linked to C":     {"CGO_ENABLED=0 ", ""},
		"root":            {"USER 65532:65532", "USER 0:0"},
		"root's group":    {"USER 65532:65532", "USER 65532:0"},
		"a name":          {"USER 65532:65532", "USER nobody"},
		"no user":         {"USER 65532:65532", ""},
		"a shell command": {`ENTRYPOINT ["/sconce"]`, "ENTRYPOINT /sconce"},
		"more files":      {"EXPOSE 8085", "COPY configs /etc/sconce"},
		"a step":          {"EXPOSE 8085", "RUN true"},
		"a folder gone":   {"COPY auth auth", "COPY authentication auth"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := strings.Replace(good, change[0], change[1], 1)
			if bad == good {
				t.Fatalf("the test is off: the Dockerfile has no %q", change[0])
			}
			if len(imageFaults(dockerfile(bad), exists)) == 0 {
				t.Error("not found")
			}
		})
	}
}

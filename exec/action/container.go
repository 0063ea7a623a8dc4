package action

import (
	"strconv"
	"strings"

	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node/fleet"
)

const (
	imageName     = fleet.Pattern(`^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,511}$`)
	containerName = fleet.Pattern(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,254}$`)
	memorySize    = fleet.Pattern(`^[0-9]{1,18}[bkmgBKMG]?$`)
	variableName  = fleet.Pattern(`^[A-Za-z_][A-Za-z0-9_.-]*$`)
)

// containerWork is one call of the container engine, checked.
type containerWork struct {
	verb    string
	fixed   []string // options that the verb always has
	made    bool     // it makes a container: all options count
	entered bool     // it runs in one: user, environment and folder count
	subject []string // behind the options: a container or an image, or nothing
	cmd     []string
	env     []string

	in document.Docker
}

// containerFiles are paths of a private folder.
type containerFiles struct {
	env string
	id  string // the engine writes the ID of a container that it makes
}

// readContainerWork checks the inputs of aws:runDockerAction.
func readContainerWork(in document.Docker) (containerWork, error) {
	w := containerWork{verb: strings.ToLower(in.Action), in: in}
	var needs []string
	switch w.verb {
	case "create", "run":
		w.made, needs = true, []string{"image"}
	case "exec":
		w.entered, needs = true, []string{"container", "cmd"}
	case "start", "stop", "kill", "restart", "rm", "logs":
		needs = []string{"container"}
	case "inspect":
		if needs = []string{"container"}; in.Container == "" {
			needs = []string{"image"}
		}
	case "pull", "rmi":
		needs = []string{"image"}
	case "ps":
		w.fixed = []string{"--all"}
	case "stats":
		if w.fixed = []string{"--no-stream"}; in.Container != "" {
			needs = []string{"container"}
		}
	case "images":
	default:
		return containerWork{}, fleet.Errorf(fleet.Invalid, "there is no docker action %q", in.Action).
			Hinted("Create, Start, Run, Stop, Kill, Restart, Rm, Exec, Inspect, Logs, Ps, Stats, Pull, Images or Rmi")
	}
	if err := w.take(needs); err != nil {
		return containerWork{}, err
	}
	return w, w.check()
}

// take sets what the verb works on.
func (w *containerWork) take(needs []string) error {
	for _, need := range needs {
		switch need {
		case "container":
			w.subject = append(w.subject, w.in.Container)
			if !containerName.MatchString(w.in.Container) {
				return fleet.Errorf(fleet.Invalid, "docker %s needs a container; %q is no name of one", w.verb, w.in.Container)
			}
		case "image":
			w.subject = append(w.subject, w.in.Image)
			if !imageName.MatchString(w.in.Image) {
				return fleet.Errorf(fleet.Invalid, "docker %s needs an image; %q is no name of one", w.verb, w.in.Image)
			}
		case "cmd":
			if w.in.Cmd == "" {
				return fleet.Errorf(fleet.Invalid, "docker %s needs a cmd", w.verb)
			}
		}
	}
	if !w.made && !w.entered {
		return nil
	}
	var err error
	w.cmd, err = words(w.in.Cmd)
	return err
}

func (w *containerWork) check() error {
	if w.made && w.in.Container != "" && !containerName.MatchString(w.in.Container) {
		return fleet.Errorf(fleet.Invalid, "%q is no name of a container", w.in.Container)
	}
	if w.in.Memory != "" && !memorySize.MatchString(w.in.Memory) {
		return fleet.Errorf(fleet.Invalid, "memory %q is no size", w.in.Memory).Hinted("512m")
	}
	if w.in.CPUShares < 0 {
		return fleet.Errorf(fleet.Invalid, "cpuShares is below 0")
	}
	for _, kv := range w.in.Env {
		name, _, ok := strings.Cut(kv, "=")
		if !ok || !variableName.MatchString(name) || strings.ContainsAny(kv, "\r\n\x00") {
			return fleet.Errorf(fleet.Invalid, "env takes NAME=value on one line, and %q is not the name of such a one", name)
		}
	}
	w.env = w.in.Env
	return nil
}

// args returns the engine's arguments. Options carry their value behind "=", and what is no option stands behind "--" or
// was checked, so that no value becomes an option.
func (w containerWork) args(files containerFiles) []string {
	out := append([]string{w.verb}, w.fixed...)
	option := func(name, value string) {
		if value != "" {
			out = append(out, "--"+name+"="+value)
		}
	}
	if w.made {
		option("cidfile", files.id)
		option("name", w.in.Container)
		for _, v := range w.in.Volume {
			option("volume", v)
		}
		option("memory", w.in.Memory)
		if w.in.CPUShares > 0 {
			option("cpu-shares", strconv.FormatInt(w.in.CPUShares, 10))
		}
		option("publish", w.in.Publish)
	}
	if w.made || w.entered {
		option("user", w.in.User)
		option("workdir", w.in.WorkingDirectory)
		if len(w.env) > 0 {
			option("env-file", files.env)
		}
	}
	if len(w.subject) > 0 {
		out = append(append(out, "--"), w.subject...)
	}
	return append(out, w.cmd...)
}

// words splits a command line as a shell does, without expanding anything: at spaces, but for what is quoted.
func words(line string) ([]string, error) {
	var out []string
	var word strings.Builder
	var quote byte
	open := false // a word has begun, though it may be empty
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case quote == '\'' && c != '\'', quote == '"' && c != '"' && c != '\\':
			word.WriteByte(c)
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\':
			if i++; i == len(line) {
				return nil, fleet.Errorf(fleet.Invalid, "cmd ends in a backslash")
			}
			if quote == '"' && !strings.ContainsRune("\"\\$`", rune(line[i])) {
				word.WriteByte('\\')
			}
			word.WriteByte(line[i])
			open = true
		case c == '\'' || c == '"':
			quote, open = c, true
		case strings.IndexByte(" \t\r\n", c) >= 0:
			if open {
				out = append(out, word.String())
				word.Reset()
			}
			open = false
		default:
			word.WriteByte(c)
			open = true
		}
	}
	if quote != 0 {
		return nil, fleet.Errorf(fleet.Invalid, "cmd has a quote that is not closed")
	}
	if open {
		out = append(out, word.String())
	}
	return out, nil
}

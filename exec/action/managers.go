package action

import (
	"strings"

	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node/fleet"
)

// packageName is a name that no package manager takes for an option, a pattern, a path, a group or a URL. One that ends in
// "-" would be an order to remove it.
const (
	packageName    = fleet.Pattern(`^[A-Za-z0-9][A-Za-z0-9+._-]{0,199}(:[a-z0-9-]{1,20})?$`)
	packageVersion = fleet.Pattern(`^[A-Za-z0-9][A-Za-z0-9.+~^:_-]{0,199}$`)
)

// wanted is what the step asks for, checked.
type wanted struct {
	name    string
	version string // "": the newest, or any
	install bool
	afresh  bool // remove first what is there
}

func (w wanted) text() string {
	if w.version == "" {
		return w.name
	}
	return w.name + " " + w.version
}

// manager is a package manager as a table: what to call it with. Each list is without the program's own name but for the
// questions, which other programs answer.
type manager struct {
	program     string
	env         []string
	refresh     []string                   // fetches the lists of packages; with known
	known       func(name string) []string // lists the names that begin with one, a line each; nil: add takes no patterns
	query       func(name string) []string // prints what is installed
	versions    func(output string) string // of query's answer: a line each
	add         func(w wanted) []string
	remove      func(name string) []string
	lockedCode  int // exit code that says that somebody else holds the lock; 0: none does
	lockedWords []string
}

// quiet is the environment of tools that must not ask, and whose words are compared.
func (m manager) quiet() []string { return append([]string{"LC_ALL=C", "LANGUAGE=C"}, m.env...) }

// read checks a step's inputs.
func (m manager) read(in document.Package) (wanted, error) {
	w := wanted{name: in.Name, version: in.Version}
	if strings.EqualFold(w.version, "latest") {
		w.version = ""
	}
	switch strings.ToLower(in.Action) {
	case "install":
		w.install = true
	case "uninstall":
	default:
		return wanted{}, fleet.Errorf(fleet.Invalid, "a package is to Install or to Uninstall, not to %q", in.Action)
	}
	// "Uninstall and reinstall" is the default of SSM, whose packages need it. Here the manager replaces what is there, and
	// what depends on the package stays: it is done only where it is asked for.
	switch strings.ToLower(in.InstallationType) {
	case "", "in-place update":
	case "uninstall and reinstall":
		w.afresh = true
	default:
		return wanted{}, fleet.Errorf(fleet.Invalid, "there is no installationType %q", in.InstallationType).Hinted(`"In-place update" or "Uninstall and reinstall"`)
	}
	if !packageName.MatchString(w.name) || strings.HasSuffix(w.name, "-") {
		return wanted{}, fleet.Errorf(fleet.Invalid, "%q is no name of a package", w.name)
	}
	if w.version != "" && !packageVersion.MatchString(w.version) {
		return wanted{}, fleet.Errorf(fleet.Invalid, "%q is no version of a package", w.version)
	}
	return w, nil
}

// managers lists the known ones, in the order in which a host is searched for them.
func managers() []manager {
	return []manager{apt(), redHat("dnf"), redHat("yum"), zypper(), apk()}
}

func apt() manager {
	// Configuration files that the host changed are kept; a missing terminal is no question.
	fixed := []string{"-q", "-y", "-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold", "-o", "Dpkg::Use-Pty=0"}
	return manager{
		program: "apt-get",
		env:     []string{"DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_MODE=l", "UCF_FORCE_CONFFOLD=1"},
		refresh: []string{"-q", "update"},
		known: func(name string) []string {
			bare, _, _ := strings.Cut(name, ":")
			return []string{"apt-cache", "-o", "APT::Cache::AllNames=true", "pkgnames", "--", bare}
		},
		query: func(name string) []string {
			return []string{"dpkg-query", "-W", "-f", "${Status} ${Version}\n", "--", name}
		},
		versions: dpkgVersions,
		add: func(w wanted) []string {
			if w.version != "" {
				return append(fixed[:len(fixed):len(fixed)], "--allow-downgrades", "install", "--", w.name+"="+w.version)
			}
			return append(fixed[:len(fixed):len(fixed)], "install", "--", w.name)
		},
		remove:      func(name string) []string { return append(fixed[:len(fixed):len(fixed)], "remove", "--", name) },
		lockedWords: []string{"Could not get lock", "Unable to acquire the dpkg frontend lock", "Unable to lock", "is another process using it"},
	}
}

// dpkgVersions keeps the versions of what is installed: dpkg knows removed ones too.
func dpkgVersions(output string) string {
	var out strings.Builder
	for line := range strings.Lines(output) {
		if f := strings.Fields(line); len(f) == 4 && f[2] == "installed" {
			out.WriteString(f[3] + "\n")
		}
	}
	return out.String()
}

func rpmQuery(name string) []string {
	return []string{"rpm", "-q", "--qf", "%{VERSION}-%{RELEASE}\n", "--", name}
}

func asPrinted(output string) string { return output }

// redHat is dnf, and its elder yum. They wait for their lock without a bound unless they are told to give up.
func redHat(program string) manager {
	fixed := []string{"-y", "--setopt=exit_on_lock=True"}
	return manager{
		program:  program,
		query:    rpmQuery,
		versions: asPrinted,
		add: func(w wanted) []string {
			name := w.name
			if w.version != "" {
				name += "-" + w.version
			}
			return append(fixed[:len(fixed):len(fixed)], "install", "--", name)
		},
		remove:      func(name string) []string { return append(fixed[:len(fixed):len(fixed)], "remove", "--", name) },
		lockedCode:  200,
		lockedWords: []string{"Existing lock /", "is locked by another", "another app is currently holding the yum lock", "Another app is currently holding the yum lock"},
	}
}

func zypper() manager {
	fixed := []string{"--non-interactive"}
	return manager{
		program:  "zypper",
		query:    rpmQuery,
		versions: asPrinted,
		add: func(w wanted) []string {
			if w.version != "" {
				return append(fixed[:len(fixed):len(fixed)], "install", "--oldpackage", "--", w.name+"="+w.version)
			}
			return append(fixed[:len(fixed):len(fixed)], "install", "--", w.name)
		},
		remove:      func(name string) []string { return append(fixed[:len(fixed):len(fixed)], "remove", "--", name) },
		lockedCode:  7, // ZYPPER_EXIT_ZYPP_LOCKED
		lockedWords: []string{"System management is locked"},
	}
}

func apk() manager {
	return manager{
		program: "apk",
		query:   func(name string) []string { return []string{"apk", "list", "--installed", "--", name} },
		versions: func(output string) string { // NAME-VERSION-rN ARCH {ORIGIN} (LICENSE) [installed]
			var out strings.Builder
			for line := range strings.Lines(output) {
				word, _, _ := strings.Cut(line, " ")
				if parts := strings.Split(strings.TrimSpace(word), "-"); len(parts) >= 3 {
					out.WriteString(strings.Join(parts[len(parts)-2:], "-") + "\n")
				}
			}
			return out.String()
		},
		add: func(w wanted) []string {
			name := w.name
			if w.version != "" {
				name += "=" + w.version
			}
			return []string{"--no-progress", "add", "--upgrade", "--update-cache", "--", name}
		},
		remove:      func(name string) []string { return []string{"--no-progress", "del", "--", name} },
		lockedWords: []string{"Unable to lock database"},
	}
}

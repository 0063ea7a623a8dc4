package main

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/config"
	"github.com/muster-fleet/muster/node/fleet"
)

// systemConfig is the configuration of a system's agent.
const systemConfig = "/etc/muster/config.yaml"

func newConfigCommand(a *app) *cobra.Command {
	return newNoun("config", "What this host's own configuration says", newConfigShowCommand(a), newConfigCheckCommand(a), newConfigReloadCommand(a))
}

// configFlags are the flags by which a command takes a host's configuration.
type configFlags struct {
	path string
	set  *pflag.FlagSet // those of the keys; nil: the command has none
}

// register adds --config, and a flag for every key that has none yet.
func (f *configFlags) register(cmd *cobra.Command) {
	f.registerPath(cmd)
	f.set = cmd.Flags()
	for _, k := range config.Keys() {
		if f.set.Lookup(k.Flag()) == nil {
			f.set.String(k.Flag(), "", fmt.Sprintf("%s [$%s]", k.Allowed(), k.Variable()))
		}
		if k.Kind == config.Switch {
			f.set.Lookup(k.Flag()).NoOptDefVal = "true"
		}
	}
}

func (f *configFlags) registerPath(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.path, "config", "", "this host's configuration (default: "+systemConfig+", where the data folder is the system's) [$MUSTER_CONFIG]")
}

// file returns the configuration file, and whether somebody asked for it. A system's own is there or not.
func (f *configFlags) file(a *app) (path string, asked bool) {
	if path := cmp.Or(f.path, a.getenv("MUSTER_CONFIG")); path != "" {
		if whole, err := filepath.Abs(path); err == nil { // operators elsewhere are told of it
			path = whole
		}
		return path, true
	}
	if a.dataDir() == systemData {
		return systemConfig, false
	}
	return "", false
}

// read decides what counts on this host, by its flags, environment, file and data folder.
func (f *configFlags) read(a *app) (config.Config, []config.Problem) {
	given := append(f.given(), variables(a.getenv)...)
	path, asked := f.file(a)
	inFile, problems := readConfigFile(path, asked)
	given = append(given, inFile...)
	given = append(given, folderSays(a.dataDir())...)
	if paused, ok := readPause(a.dataDir()); ok {
		given = append(given, paused.given())
	}
	c, wrong := config.Resolve(given)
	return c, append(problems, wrong...)
}

// given lists the flags that were given.
func (f *configFlags) given() (out []config.Given) {
	if f.set == nil {
		return nil
	}
	for _, k := range config.Keys() {
		flag := f.set.Lookup(k.Flag())
		if flag == nil || !flag.Changed {
			continue
		}
		text := flag.Value.String()
		if list, ok := flag.Value.(pflag.SliceValue); ok {
			text = strings.Join(list.GetSlice(), ",")
		}
		out = append(out, config.Given{Name: k.Name, Text: text, Origin: config.Origin{Source: config.Flag, Where: "--" + k.Flag()}})
	}
	return out
}

// variables lists what the environment says.
func variables(getenv func(string) string) (out []config.Given) {
	for _, k := range config.Keys() {
		if text := getenv(k.Variable()); text != "" {
			out = append(out, config.Given{Name: k.Name, Text: text, Origin: config.Origin{Source: config.Environment, Where: "$" + k.Variable()}})
		}
	}
	return out
}

// readConfigFile reads the file; one that nobody asked for may be missing.
func readConfigFile(path string, asked bool) ([]config.Given, []config.Problem) {
	if path == "" {
		return nil, nil
	}
	info, err := os.Stat(path)
	switch {
	case err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o002 != 0:
		return nil, []config.Problem{{Where: path, What: "everybody may write it, and so decide how this host's agent runs", Hint: "chmod o-w " + path}}
	case err == nil && info.Mode().IsRegular() && info.Size() <= config.MaxFile:
	case err == nil && info.Mode().IsRegular():
		return nil, []config.Problem{{Where: path, What: fmt.Sprintf("%d bytes; a configuration has at most %d", info.Size(), config.MaxFile)}}
	case err == nil && !info.IsDir():
	case err == nil:
		return nil, []config.Problem{{Where: path, What: "is a folder, not a file", Hint: "--config FILE"}}
	case os.IsNotExist(err) && !asked:
		return nil, nil
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, []config.Problem{{Where: path, What: "cannot be read: " + causeOf(err), Hint: "--config FILE, or leave it out"}}
	}
	return config.Parse(path, text)
}

// causeOf returns what a file's error says beside its path.
func causeOf(err error) string {
	if e, ok := err.(*fs.PathError); ok {
		return e.Err.Error()
	}
	return err.Error()
}

func newConfigShowCommand(a *app) *cobra.Command {
	var flags configFlags
	cmd := &cobra.Command{
		Use: "show", Short: "Show what counts on this host, and where each value comes from", Args: noArgs,
		Long: `Show what counts on this host, and where each value comes from: the running agent says it; where none runs, it is worked out
from the environment, the configuration file and the data folder as the agent's next start would.

The first that says something counts: muster agent pause, a flag of muster agent, an environment variable MUSTER_KEY, the
file, what init or join were told, the preset, the default.`,
		Example: `  muster config show
  muster config show -o wide
  muster config show -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			shown, err := a.hostConfig(cmd, &flags)
			if err != nil {
				return err
			}
			if err := a.showConfig(shown); err != nil {
				return err
			}
			if len(shown.Problems) > 0 {
				return exitCode(exec.ExitUsage)
			}
			return nil
		},
	}
	flags.registerPath(cmd)
	return cmd
}

// hostConfig asks the running agent, or works it out. Whoever names a file wants to know what would come of that.
func (a *app) hostConfig(cmd *cobra.Command, flags *configFlags) (shape.Config, error) {
	if flags.path == "" {
		said, err := api.Dial(a.socketPath()).Config(cmd.Context())
		if err == nil || fleet.KindOf(err) != fleet.Unavailable {
			return said, err
		}
	}
	c, problems := flags.read(a)
	path, _ := flags.file(a)
	return shape.Config{Format: shape.Format, File: path, Values: shape.OfConfig(c), Problems: shape.OfConfigProblems(problems)}, nil
}

func (a *app) showConfig(c shape.Config) error {
	if !a.forPeople() && a.flags.output != asNames && a.flags.output != asLines {
		return a.printData(c)
	}
	if err := configListing().show(a, c.Values); err != nil || !a.forPeople() {
		return err
	}
	if !c.Running {
		a.say("no agent answers on this host: this is what one would take")
	}
	for _, name := range c.Later {
		a.say("! %s was changed: the agent's next start takes it (systemctl restart muster)", name)
	}
	a.sayProblems(c.Problems)
	return nil
}

func (a *app) sayProblems(all []shape.ConfigProblem) {
	for _, p := range all {
		a.say("! %s: %s", p.Where, p.What)
		if p.Hint != "" {
			a.say("  → %s", p.Hint)
		}
	}
}

func configListing() listing[shape.ConfigValue] {
	key := func(v shape.ConfigValue) config.Key {
		k, _ := config.Find(v.Key)
		return k
	}
	return listing[shape.ConfigValue]{
		columns: []column[shape.ConfigValue]{
			{head: "KEY", cell: func(v shape.ConfigValue) string { return v.Key }},
			{head: "VALUE", cell: func(v shape.ConfigValue) string { return cmp.Or(v.Value, key(v).Without) }},
			{head: "FROM", cell: func(v shape.ConfigValue) string { return cmp.Or(v.Where, v.Source) }},
			{head: "TAKEN", wide: true, cell: func(v shape.ConfigValue) string {
				if v.Live {
					return "at once"
				}
				return "at the next start"
			}},
			{head: "WHY", wide: true, cell: func(v shape.ConfigValue) string { return key(v).Reason }},
		},
		name: func(v shape.ConfigValue) string { return v.Key },
	}
}

func newConfigCheckCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "check [FILE]", Short: "Check a configuration file before an agent takes it", Args: cobra.MaximumNArgs(1),
		Long: `Check a configuration file, or, without FILE, all that the agent's next start would take: the environment and the system's
file. It says everything that is wrong, each with its line and what is allowed, and exits 2 then.`,
		Example: `  muster config check
  muster config check config.yaml`,
		RunE: func(_ *cobra.Command, args []string) error {
			var flags configFlags
			if len(args) > 0 {
				flags.path = args[0]
			}
			c, problems := flags.read(a)
			path, _ := flags.file(a)
			return a.sayChecked(path, c, problems)
		},
	}
}

func (a *app) sayChecked(path string, c config.Config, problems []config.Problem) error {
	shown := shape.Config{Format: shape.Format, File: path, Values: shape.OfConfig(c), Problems: shape.OfConfigProblems(problems)}
	if !a.forPeople() {
		if err := a.printData(shown); err != nil {
			return err
		}
	} else {
		a.sayProblems(shown.Problems)
	}
	if len(problems) > 0 {
		return exitCode(exec.ExitUsage)
	}
	if a.forPeople() {
		fmt.Fprintf(a.stdout, "%s: nothing is wrong\n", printable(cmp.Or(path, "no file")))
	}
	return nil
}

func newConfigReloadCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "reload", Short: "Have the running agent read its configuration again", Args: noArgs,
		Long: `Have the running agent read its configuration again, as SIGHUP does (systemctl reload muster). It takes what can be taken
without a restart, and says what waits for one. A configuration with a mistake changes nothing: the agent goes on with the one
that it has, and says so in muster status too.`,
		Example: `  muster config reload`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := api.Dial(a.socketPath()).ReloadConfig(cmd.Context())
			if err != nil {
				return err
			}
			if !a.forPeople() {
				err = a.printData(c)
			}
			if len(c.Problems) > 0 {
				a.sayProblems(c.Problems)
				a.say("nothing was changed: the agent goes on with the configuration that it has")
				return exitCode(exec.ExitUsage)
			}
			for _, name := range c.Later {
				a.say("! %s was changed: the agent's next start takes it (systemctl restart muster)", name)
			}
			return err
		},
	}
}

package main

import (
	"context"
	"os"
	osexec "os/exec"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

func newParamRunCommand(a *app) *cobra.Command {
	var f access
	var paths []string
	var noSecrets bool
	cmd := &cobra.Command{
		Use: "run --path PATH -- COMMAND [ARG…]", Short: "Run a command here with parameters in its environment", Args: cobra.ArbitraryArgs,
		Long: `Run a command on this host, in the place of this process, with all parameters below --path in its environment; secrets are
opened. A name is what stands behind the path, in capitals, with _ for every other character: below /app/prod, the parameter
/app/prod/db/url is DB_URL. Two parameters of one name are refused, and so are names by which a loader or a shell would
be led astray (PATH, LD_…, IFS, …). What the environment has already under such a name is replaced. Core dumps are off
(ulimit -c 1), as they would hold the secrets, unless --no-secrets is given.

One argument is a shell line (sh -c); several are a program and its arguments, without a shell.`,
		Example: `  muster param run --path /app/prod -- ./server --port 8080
  muster param run --path /app/common --path /app/prod -- 'env | sort'
  muster param run --path /app/prod --as-host --stale -- ./server`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runWithParams(cmd.Context(), f, paths, noSecrets, args)
		},
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false) // what follows the command's first word belongs to the command
	flags.StringArrayVar(&paths, "path", nil, "parameters below this path, at any depth; may be repeated")
	flags.BoolVar(&noSecrets, "no-secrets", false, "leave secrets out")
	f.flags(cmd)
	completePaths(a, cmd, "path")
	return cmd
}

// noCores switches core dumps off, also those that the kernel feeds to a pipe: only a limit of 1 does that. Where less is
// permitted than that, as good as nothing is dumped anyway.
func noCores() error {
	var now unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_CORE, &now)
	if err == nil && now.Max > 0 {
		err = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1, Max: now.Max})
	}
	if err != nil {
		return fleet.Errorf(fleet.Internal, "cannot switch core dumps off: %w", err)
	}
	return nil
}

func (a *app) runWithParams(ctx context.Context, f access, paths []string, noSecrets bool, words []string) error {
	switch {
	case len(paths) == 0:
		return fleet.Errorf(fleet.Invalid, "muster param run needs --path").Hinted("muster param run --path /app/prod -- COMMAND")
	case len(words) == 0:
		return fleet.Errorf(fleet.Invalid, "no command to run").Hinted("muster param run --path %s -- COMMAND", paths[0])
	}
	c, err := a.openCabinet(ctx, f)
	if err != nil {
		return err
	}
	variables, err := c.environment(ctx, paths, noSecrets)
	if err != nil {
		return err
	}
	c.tellAge()
	argv := words
	if len(words) == 1 {
		argv = []string{"/bin/sh", "-c", words[0]}
	}
	program, err := osexec.LookPath(argv[0])
	if err != nil {
		return fleet.Errorf(fleet.NotFound, "%w", err)
	}
	if !noSecrets {
		if err := noCores(); err != nil {
			return err
		}
	}
	if err := syscall.Exec(program, argv, mergeEnvironment(os.Environ(), variables)); err != nil {
		return fleet.Errorf(fleet.Internal, "cannot run %s: %w", program, err)
	}
	return nil
}

// environment reads what is below paths as variables.
func (c *cabinet) environment(ctx context.Context, paths []string, noSecrets bool) ([]variable, error) {
	var out []variable
	for _, text := range paths {
		path, err := params.CheckPath(text)
		if err != nil {
			return nil, err
		}
		found, err := c.below(ctx, params.PathAsk{Path: path, Recursive: true}, true)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			c.app.say("there is nothing below %s that you may read", path)
		}
		for _, v := range found {
			if v.secret() && noSecrets {
				continue
			}
			value, err := c.reveal(ctx, v)
			if err != nil {
				return nil, err
			}
			out = append(out, variable{variableName(path, v.put.Name), v.put.Name, string(value)})
		}
	}
	return out, checkVariables(out)
}

// variable is one variable of an environment, and the parameter that it comes from.
type variable struct{ name, from, value string }

// variableName returns the variable of a parameter below a path: what stands behind the path in capitals, with _ for every
// character that is neither letter nor digit, and before a digit that would be the first.
func variableName(path, name string) string {
	rest := strings.TrimPrefix(params.FullPath(name), strings.TrimSuffix(path, "/")+"/")
	var b strings.Builder
	for i, r := range strings.ToUpper(rest) {
		switch {
		case r >= 'A' && r <= 'Z':
			b.WriteRune(r)
		case r >= '0' && r <= '9':
			if i == 0 {
				b.WriteByte('_')
			}
			b.WriteRune(r)
		default:
			b.WriteByte('_')
		}
	}
	return b.String()
}

// checkVariables refuses what would lead a program astray: whoever may put a parameter must not decide by it what runs.
func checkVariables(variables []variable) error {
	from := map[string]string{}
	for _, v := range variables {
		if other, ok := from[v.name]; ok {
			if other == v.from {
				return fleet.Errorf(fleet.Invalid, "%s is below two of the paths", v.from)
			}
			return fleet.Errorf(fleet.Conflict, "%s and %s would both be %s", other, v.from, v.name).
				Hinted("rename one of them, or name a longer --path")
		}
		from[v.name] = v.from
		if strayName(v.name) {
			return fleet.Errorf(fleet.Denied, "%s would be %s, which decides what a program loads or runs", v.from, v.name).
				Hinted("rename it, or name a shorter --path")
		}
	}
	return nil
}

// strayName reports whether a variable of that name would change which code a program runs: what loaders, shells, interpreters
// and widespread tools take such things from.
func strayName(name string) bool {
	for _, prefix := range []string{"LD_", "DYLD_", "OPENSSL_", "BASH_FUNC_", "PERL5", "RUBY", "GIT_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return slices.Contains([]string{
		"PATH", "IFS", "ENV", "BASH_ENV", "SHELLOPTS", "BASHOPTS", "PROMPT_COMMAND", "PS4", "GCONV_PATH", "GLIBC_TUNABLES",
		"PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "PYTHONINSPECT", "NODE_OPTIONS", "NODE_PATH", "CLASSPATH", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS",
		"_JAVA_OPTIONS", "DOTNET_STARTUP_HOOKS", "PAGER", "EDITOR", "VISUAL", "LESSOPEN", "LESSCLOSE",
	}, name)
}

// mergeEnvironment returns an environment with variables in the place of those that it has under their names.
func mergeEnvironment(environ []string, variables []variable) []string {
	given := map[string]bool{}
	for _, v := range variables {
		given[v.name] = true
	}
	var out []string
	for _, kv := range environ {
		if name, _, _ := strings.Cut(kv, "="); !given[name] {
			out = append(out, kv)
		}
	}
	for _, v := range variables {
		out = append(out, v.name+"="+v.value)
	}
	return out
}

package document

import (
	"strings"
	"testing"
)

func powerShellDoc(script string) string {
	return strings.Replace(docWith(script), "aws:runShellScript", "aws:runPowerShellScript", 1)
}

func TestPowerShellReferences(t *testing.T) {
	for _, c := range []struct{ script, want string }{
		{`Write-Output {{ p }}`, `Write-Output ${env:SSM_p}`},
		{`Get-Item -Path {{ p }}; Write-Output "a {{ q }} b"`, `Get-Item -Path ${env:SSM_p}; Write-Output "a ${env:SSM_q} b"`},
		{`$x = '{{ p }}'`, `$x = ${env:SSM_p}`},
		{`if ($n -gt {{ n }}) { Write-Output "x" }`, `if ($n -gt ([long]${env:SSM_n})) { Write-Output "x" }`},
		{"# {{ p }}\n<# {{ p }} #>\nWrite-Output 'it''s' {{ p }}", "# {{ p }}\n<# {{ p }} #>\nWrite-Output 'it''s' ${env:SSM_p}"},
		{"$t = @\"\na \" {{ p }}\n\"@\nWrite-Output {{ p }}", "$t = @\"\na \" ${env:SSM_p}\n\"@\nWrite-Output ${env:SSM_p}"},
	} {
		d, err := Parse([]byte(powerShellDoc(c.script)))
		if err != nil {
			t.Errorf("%s\n  %v", c.script, err)
			continue
		}
		if got := d.steps[0].compiled.text; got != c.want+"\n" {
			t.Errorf("%s\n got %s\nwant %s", c.script, got, c.want)
		}
	}
}

func TestPowerShellRefusals(t *testing.T) {
	for _, script := range []string{
		`Invoke-Expression "x {{ p }}"`, `iex {{ p }}`, `& {{ p }}`, `. {{ p }}`, `{{ p }} arg`, `$x; {{ p }} arg`, `ls | {{ p }}`, `a{{ p }}`, `'a {{ p }}'`, `${{ p }}`, `"${{ p }}"`, "\"`{{ p }}\"",
		`"$(Get-Item {{ p }})"`, "$t = @'\n{{ p }}\n'@", `[scriptblock]::Create("{{ p }}")`, `cmd /c {{ p }}`, `sh -c {{ p }}`, "Write-Output `\n {{ p }}", "Write-Output \u201cx {{ p }}\u201d",
	} {
		refused(t, powerShellDoc(script), "line 1", "{{ p }}")
	}
}

func TestPowerShellIsRunByPwsh(t *testing.T) {
	s := planOf(t, powerShellDoc("Write-Output {{ p }}\n"), nil).Steps[0]
	if s.Interpreter[0] != "pwsh" || s.ScriptName != "_script.ps1" {
		t.Errorf("%+v", s)
	}
}

func TestHelpSaysWhatIsNeeded(t *testing.T) {
	d := parsed(t, typed)
	help := d.Help("Deploy")
	for _, want := range []string{"Deploy (schema 2.2)", "s  String, required", "1 to 20 characters", "i  Integer, default 5", "at most 4 items", "matches ^[^x]*$", "1. a (aws:runShellScript)", "muster run --doc Deploy --target EXPR s=VALUE"} {
		if !strings.Contains(help, want) {
			t.Errorf("%q is not in\n%s", want, help)
		}
	}
	if strings.Contains(help, "raw shell") || !strings.Contains(parsed(t, runShellScriptText).Help("x"), "raw shell") {
		t.Error("help does not say which documents are raw shell")
	}
}

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

// TestPowerShellRunsNoValue: a script with a value has nothing that could run one.
func TestPowerShellRunsNoValue(t *testing.T) {
	for _, script := range []string{
		`& "{{ p }}"`, `& '{{ p }}'`, `. "{{ p }}"`, `$f = "{{ p }}"; & $f`, `$f = "{{ p }}"; . $f`, `Start-Process {{ p }}`, `Start-Process -FilePath {{ p }}`, `start {{ p }}`, `saps {{ p }}`,
		`[Diagnostics.Process]::Start("{{ p }}")`, `$ExecutionContext.InvokeCommand.ExpandString("{{ p }}")`, `[ScriptBlock]::Create("{{ p }}")`, `Invoke-Item {{ p }}`, `Invoke-Command {{ p }}`,
		`Invoke-RestMethod {{ p }} | & cat`, `Import-Module {{ p }}`, `Set-Alias ls {{ p }}`, `sal x {{ p }}; x`, `Get-ChildItem | ForEach-Object {{ p }}`, `$m = "{{ p }}"; Get-Process | ForEach-Object $m`, `$m = "{{ p }}"; Get-Process | ForEach-Object -MemberName $m`,
		`$env:PATH = "{{ p }}"`, `$env:PATH += {{ p }}`, `$x, $env:PATH = 1, {{ p }}`, `foreach ($env:PATH in {{ p }}) { ls }`, `env {{ p }}`, `sudo {{ p }}`, `zsh -c {{ p }}`, `dash -c {{ p }}`, `ruby -e {{ p }}`, `node -e {{ p }}`, `su -c {{ p }}`,
		`find . -exec {{ p }}`, `"{{ p }}" | /bin/dash`, `"{{ p }}" | xargs env`, `git -c {{ p }} status`, `xargs {{ p }}`, "i`ex {{ p }}", "&\n\"{{ p }}\"", `$x="ie"+"x"; & $x {{ p }}`, `Start-Job -ScriptBlock {}; Write-Output {{ p }}`, `Start-ThreadJob -FilePath {{ p }}`,
		`function Write-Output { iex $args[0] }; Write-Output {{ p }}`, `${function:x} = "{{ p }}"; x`, `$function:x = {{ p }}`, `Set-Content function:Write-Host -Value {{ p }}`, `Set-Content 'function:Write-Host' -Value {{ p }}`, `Set-Content {{ p }} -Value x`, `$f = "{{ p }}"; Set-Content -Path $f -Value x`,
		`Write-Output "$(iex '{{ p }}')"`, `$x = "{{ p }}"; Write-Output "$(& $x)"`, `$x = {{ p }}; Write-Output "a" > $x`, `Write-Output {{ p }} -OutVariable PSDefaultParameterValues`, `$x = {{ p }}; $x.$x()`, `$x = {{ p }}; $x.Invoke()`, `$x = {{ p }}; [type]$x`, `1 -as {{ p }}`, `$PSDefaultParameterValues = {{ p }}`,
		`$a = @{ FilePath = {{ p }} }; Start-Process @a`, `$a = @{ Path = {{ p }} }; Get-Item @a`, `if ({{ p }} -eq "x") { ./run }`, `Write-Output "a"#; Write-Output {{ p }}`, `New-Alias x {{ p }}`, `Set-Item alias:x {{ p }}`, `Get-Item x; {{ e }} {{ p }}`,
	} {
		refused(t, powerShellDoc(script), "line 1", "{{ ")
	}
	for _, script := range []string{
		`$x = "a {{ p }} $(Get-Date)"; Write-Output $x`, `Set-Content -Path /etc/motd -Value "hello {{ p }}"`, `if ("{{ p }}" -eq 'x') { Write-Host "yes" } else { Write-Host "no" }`, `Get-Process | Where-Object { $_.Name -eq "{{ p }}" } | Select-Object -First 3 Name`,
		`foreach ($i in Get-ChildItem -Path {{ p }}) { Write-Output $i.Name.ToUpper() }`, `if (-not (Test-Path {{ p }})) { throw "no {{ p }}" }`, `$t = @{ a = 1; b = "{{ p }}" }; $t | ConvertTo-Json`, `Write-Output {{ p }} 2>$null; exit 3`, `1..3 | ForEach-Object { Write-Output "$_ {{ p }}" }`,
		`$n = [int]"{{ n }}"; Write-Output ($n + 1), {{ p }}`, `& ./run {{ e }} {{ n }}`, "try { Get-Item {{ p }} -ErrorAction Stop } catch { Write-Error \"no {{ p }}\"; exit 1 }", "\"{{ p }}\" | Out-File -FilePath /tmp/x",
	} {
		d, err := Parse([]byte(powerShellDoc(script)))
		if err != nil {
			t.Errorf("%s\n  %v", script, err)
		} else if d.RawShell() {
			t.Errorf("%s: raw shell", script)
		}
	}
}

// TestPowerShellThatReadsAValueByItself: the way out of the short list counts as raw shell, where it could run the value.
func TestPowerShellThatReadsAValueByItself(t *testing.T) {
	for script, raw := range map[string]bool{`./run.ps1 $env:SSM_p`: true, `iex $env:ssm_p`: true, `Write-Output $env:SSM_p`: false, `./run.ps1`: false} {
		if got := parsed(t, powerShellDoc(script)).RawShell(); got != raw {
			t.Errorf("%s: raw %v", script, got)
		}
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

// FuzzPowerShellReader: no script makes the reader fail, nor takes & outside of a text for harmless.
func FuzzPowerShellReader(f *testing.F) {
	for _, s := range []string{"& x", "\"$(", "@\"\n", "[int", "${", "a.b(", "> ", "`", "\"`", "@{a=1}", "$x[", "<#", "'", "--%", "%{", "2>&1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, script string) {
		psRuns(script)
		if !strings.ContainsAny(script, "\"'#>@{}()") && psRuns(script+"\n& x") == "" {
			t.Errorf("%q hides an operator", script)
		}
	})
}

package folder

// Told is what a host was told about itself when it was founded or enrolled.
type Told struct {
	Name     string
	Host     Host
	Outbound bool
}

// ToldOf reads what the host in dir was told, without opening the folder: its agent may run. Errors are those of a missing or
// damaged file, and of an account that may not read it.
func ToldOf(dir string) (t Told, err error) {
	f := &Folder{dir: dir}
	identity, err := f.Identity()
	if err != nil {
		return t, err
	}
	t.Name = identity.Name
	if t.Host, err = f.Host(); err != nil {
		return t, err
	}
	outbound, err := f.Outbound()
	t.Outbound = outbound.Only
	return t, err
}

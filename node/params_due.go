package node

// maxSweeps bounds the ParamsDue that a leader proposes at a time: each is for up to consensus.MaxDueAtOnce parameters, and a
// thousand that expire at midnight must not hold up what people write.
const maxSweeps = 10

// SweepParams reports whether the leader shall propose consensus.ParamsDue at now (Unix milliseconds), having proposed it done
// times just before.
func SweepParams(s interface{ ParamsDue(now int64) bool }, now int64, done int) bool {
	return done < maxSweeps && s.ParamsDue(now)
}

"""Normal equations with an arrow's shape, the solvers that step on them, and the error bars that follow."""

"""What ``spec.monitoring.suspectInputs`` sees of real attacks, and of plain traffic."""

"""The one error that users of the cluster command see."""


class ClusterError(Exception):
    """Something the user can fix; the message says what and how."""

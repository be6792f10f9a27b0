from slipway.infra.kubernetes_package import import_by_part

# Before any module of this package imports a client.
import_by_part()

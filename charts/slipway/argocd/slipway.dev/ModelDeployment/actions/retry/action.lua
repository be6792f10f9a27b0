-- Allow the revision that was rejected last to be tried again.
local me = "system:serviceaccount:argocd:argocd-server"

local rejected = obj.status and obj.status.rejected or {}
if #rejected == 0 then
  error("no revision was rejected", 0)
end
local meant = rejected[#rejected].id
local annotations = obj.metadata.annotations or {}
annotations["slipway.dev/retry"] = meant
annotations["slipway.dev/retry-by"] = meant .. "/" .. me
obj.metadata.annotations = annotations
return obj

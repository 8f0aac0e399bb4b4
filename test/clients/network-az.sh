# az network, as people type it before they build in a network of their own. Prints one line of JSON for each look at what there is.
set -e
az group create -n rg1 -l westus2 -o none
az network vnet create -g rg1 -n vnet1 --address-prefix 10.0.0.0/16 --subnet-name sn1 --subnet-prefix 10.0.0.0/24 -o none
az network vnet subnet update -g rg1 --vnet-name vnet1 -n sn1 --private-link-service-network-policies Disabled -o none
az network vnet subnet create -g rg1 --vnet-name vnet1 -n aci --address-prefixes 10.0.1.0/24 \
  --delegations Microsoft.ContainerInstance/containerGroups -o none
az network nsg create -g rg1 -n nsg1 -o none
az network nsg rule create -g rg1 --nsg-name nsg1 -n AzureImageBuilderAccess --priority 400 --direction Inbound --access Allow --protocol Tcp \
  --source-address-prefixes AzureLoadBalancer --destination-address-prefixes VirtualNetwork --destination-port-ranges 60000-60001 -o none
az network vnet subnet update -g rg1 --vnet-name vnet1 -n sn1 --network-security-group nsg1 -o none
az network vnet show -g rg1 -n vnet1 -o json | tr -d '\n'; echo
az network nsg show -g rg1 -n nsg1 -o json | tr -d '\n'; echo
if az network nsg delete -g rg1 -n nsg1; then echo 'a group in use was deleted'; exit 1; fi
az network public-ip create -g rg1 -n ip1 -o none
az network public-ip show -g rg1 -n ip1 -o json | tr -d '\n'; echo
az network vnet subnet delete -g rg1 --vnet-name vnet1 -n aci
az network vnet delete -g rg1 -n vnet1
az network nsg delete -g rg1 -n nsg1
az network vnet list -g rg1 -o json | tr -d '\n'; echo

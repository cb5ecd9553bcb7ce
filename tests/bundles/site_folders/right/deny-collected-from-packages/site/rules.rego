package site

deny contains one if some one in data.site.billing.deny

deny contains one if some one in data.site.hr.deny
